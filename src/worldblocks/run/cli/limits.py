"""Limits of options: they stand in the annotations of a `Config`, and one function checks them.

    class Config:
        batch: wb.run.Positive[int] = 16
        length: Annotated[int, wb.run.at_least(2)] = 64

        def __post_init__(self):
            wb.run.check_options(self)

`--help` shows the limit of each option. Each entry of a tuple has the limit of the tuple's type,
None has no limit, and a float is always finite.
"""

import dataclasses
import math
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

Number = TypeVar("Number", int, float)


@dataclasses.dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`.

    Args:
        low, high: the ends.
        above, below: leave out `low`, or `high`.
        also: one more number, such as the 0 that switches something off.

    >>> 1 in Between(0, 1), 1 in Between(0, 1, below=True), 0 in Between(84, 99, also=0)
    (True, False, True)
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    also: float | None = None

    def __contains__(self, value: float) -> bool:
        left_out = (self.above and value == self.low) or (self.below and value == self.high)
        return value == self.also or (self.low <= value <= self.high and not left_out)

    def text(self, whole: bool) -> str:
        """The numbers in words, of integers if `whole`.

        >>> at_least(84, also=0).text(True), inside(0, 1).text(False)
        ('84 or more, or 0', 'more than 0 and less than 1')
        """
        low = f"more than {self.low}" if self.above else f"{self.low} or more"
        if self.above and whole:
            low = f"{self.low + 1} or more"
        if math.isinf(self.high):
            words = low
        elif self.above or self.below:
            words = f"{low} and {'less than' if self.below else 'at most'} {self.high}"
        else:
            words = f"{self.low} to {self.high}"
        return words if self.also is None else f"{words}, or {self.also}"


def at_least(low: float, *, also: float | None = None) -> Between:
    """Numbers of `low` or more, and `also` if given."""
    return Between(low, math.inf, also=also)


def inside(low: float, high: float, *, also: float | None = None) -> Between:
    """Numbers above `low` and below `high`, and `also` if given."""
    return Between(low, high, above=True, below=True, also=also)


Positive = Annotated[Number, Between(0, math.inf, above=True)]
"""`Positive[int]` or `Positive[float]`: above 0."""
NonNegative = Annotated[Number, at_least(0)]
"""`NonNegative[int]` or `NonNegative[float]`: 0 or more."""
Share = Annotated[float, Between(0, 1)]
"""A probability, or the weight of one of two: 0 to 1."""
Discount = Annotated[float, Between(0, 1, below=True)]
"""0 or more and less than 1."""
Seed = Annotated[int, Between(0, 2**62)]
"""What torch, NumPy and the environments accept."""


def check_options(cfg: Any) -> None:
    """Check each field of a dataclass against the limit in its annotation.

    Raises:
        ValueError: a number is outside its limit, infinite or NaN; names the option.
    """
    kinds = get_type_hints(type(cfg), include_extras=True)
    for field in dataclasses.fields(cfg):
        given, limit = getattr(cfg, field.name), limit_of(kinds[field.name])
        for value in given if isinstance(given, tuple) else (given,):
            if not isinstance(value, int | float) or isinstance(value, bool):
                continue
            if not math.isfinite(value) or (limit and value not in limit):
                takes = limit.text(isinstance(value, int)) if limit else "a finite number"
                raise ValueError(f"{option_of(field.name)} takes {takes}, got {value}")


def option_of(name: str) -> str:
    """The option of a field, as one types it.

    >>> option_of("report_steps")
    '--report-steps'
    """
    return "--" + name.replace("_", "-")


def limit_of(kind: Any) -> Between | None:
    """The limit in an annotation: that of the number, of an optional one, or of tuple entries."""
    if isinstance(kind, Between):
        return kind
    return next((limit for part in get_args(kind) if (limit := limit_of(part))), None)


def show_limits(kind: Any, arg: Any) -> None:
    """Show the limits of a dataclass in its `--help`.

    Args:
        kind: the dataclass; tyro reads its annotations, which get a `metavar`.
        arg: `tyro.conf.arg`.
    """
    for name, hint in get_type_hints(kind, include_extras=True).items():
        limit, shown = limit_of(hint), any(hasattr(x, "metavar") for x in get_args(hint))
        if limit and not shown:
            whole = "int" in str(hint)
            words = f"{'INT' if whole else 'FLOAT'} ({limit.text(whole)})"
            words = f"[{words} ...]" if "tuple" in str(hint) else words
            kind.__annotations__[name] = Annotated[hint, arg(metavar=words)]

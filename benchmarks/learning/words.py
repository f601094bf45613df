"""The format of numbers and tables on the pages of results."""

import math
import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], end: int = 0) -> str:
    """`min – median – max`, or one value if all are equal; inf becomes `> end`."""
    few = [min(values), statistics.median(values), max(values)]
    few = few if few[0] < few[-1] else few[:1]
    return " – ".join(number(one) if math.isfinite(one) else steps_text(one, end) for one in few)


def number(value: float) -> str:
    """An integer from 100 on, three digits below."""
    return thousands(round(value)) if abs(value) >= 100 else f"{value:.3g}"


def thousands(value: int) -> str:
    """12 345."""
    return f"{value:,}".replace(",", " ")


def steps_text(hit: float, end: int) -> str:
    """Steps to a score; `> end` if it was not reached."""
    return thousands(int(hit)) if math.isfinite(hit) else f"> {thousands(end)}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "---"
    lines = [header, [rule] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

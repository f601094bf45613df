"""Promises of blocks: how they are kept, and what is said of one that is broken."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

Check = Callable[..., "Report"]
F = TypeVar("F", bound=Callable[..., Any])
Names = str | Iterable[str]


class Promise(NamedTuple):
    """One thing that every block of a kind does, and how to find out."""

    name: str
    sentence: str
    where: str  # to look if it is broken
    test: Callable[[Any], None]


class Report(NamedTuple):
    """What a check found: the promises that were kept, and why others did not apply."""

    kept: tuple[str, ...]
    skipped: dict[str, str]


class Found(AssertionError):
    """A promise does not hold: what was seen, and by how much.

    Attributes:
        example: the input at which it was seen, in words.
        deviation: the largest that was seen; NaN counts as infinite.
        allowed: what would have been kept.
    """

    def __init__(
        self, what: str, *, example: Any = None, deviation: float = math.nan, allowed: float = 0.0
    ) -> None:
        super().__init__(what)
        self.what, self.example, self.allowed = what, example, allowed
        self.deviation = deviation


class NotHere(Exception):
    """A promise does not apply to this block; the reason."""


class BrokenPromise(AssertionError):
    """Promises that a block does not keep.

    The message says of each: the promise, what was seen, the smallest example that shows it, the
    largest deviation, and where to look.

    Attributes:
        names: of the broken promises.
    """

    def __init__(self, check: str, subject: str, broken: list[tuple[Promise, Exception]]) -> None:
        self.names = tuple(promise.name for promise, _ in broken)
        head = f"{subject} breaks {len(broken)} of the promises of {check}"
        super().__init__("\n\n".join([head, *(describe(*one) for one in broken)]))


class Promises:
    """The promises of one kind of block, in the order they are tested."""

    def __init__(self) -> None:
        self.all: list[Promise] = []
        self.check = ""  # its name

    def __call__(self, name: str, sentence: str, where: str) -> Callable[[Any], Any]:
        """Enter a test: it takes what the check made of its arguments, and raises `Found`."""

        def enter(test: Callable[[Any], None]) -> Callable[[Any], None]:
            self.all.append(Promise(name, sentence, where, test))
            return test

        return enter

    def order(self, modules: Iterable[ModuleType], first: str = "protocol") -> None:
        """The order in which promises are tested: one before all, then module by module."""
        place = {module.__name__: number for number, module in enumerate(modules)}
        self.all.sort(key=lambda one: (one.name != first, place[one.test.__module__]))

    def of(self, check: F) -> F:
        """Say that a check is of these promises."""
        self.check = check.__name__
        check.promises = tuple(self.all)  # type: ignore[attr-defined]
        return check

    def keep(self, case: Any, subject: Any, only: Names, skip: Names) -> Report:
        """Test promises one by one; all that are broken are told at once.

        Raises:
            BrokenPromise: names each promise that is broken.
            ValueError: there is no promise of such a name.
        """
        kept, skipped, broken = [], {}, []
        for promise in choose(self.check, self.all, only, skip):
            try:
                promise.test(case)
            except NotHere as reason:
                skipped[promise.name] = str(reason)
            except Exception as error:
                broken.append((promise, error))
                if _search.first_only:
                    break
            else:
                kept.append(promise.name)
        if broken:
            raise BrokenPromise(self.check, named(subject), broken) from broken[0][1]
        return Report(tuple(kept), skipped)


def choose(check: str, promises: Iterable[Promise], only: Names, skip: Names) -> list[Promise]:
    """The promises that are asked for, by name."""
    promises = list(promises)
    only, skip = ([name] if isinstance(name, str) else list(name) for name in (only, skip))
    names = [promise.name for promise in promises]
    if unknown := sorted({*only, *skip} - set(names)):
        raise ValueError(f"{check} has no promise {unknown}; it has {', '.join(names)}")
    return [p for p in promises if (not only or p.name in only) and p.name not in skip]


def describe(promise: Promise, error: Exception) -> str:
    """What is said of one broken promise."""
    lines = [f"{promise.name}: {promise.sentence}"]
    if isinstance(error, Found):
        lines.append(f"  seen: {error.what}")
        if error.example is not None:
            lines.append(f"  smallest example: {error.example}")
        if not math.isnan(error.deviation):
            kept = f"({error.allowed:.3g} is kept)"
            lines.append(f"  largest deviation: {error.deviation:.3g} {kept}")
    else:
        text = str(error).strip().split("\n\n")[0]
        lines.append(f"  seen: {type(error).__name__}: {text[:400]}")
    lines.append(f"  look at: {promise.where}")
    return "\n".join(lines)


def named(subject: Any) -> str:
    """What a person would call it."""
    while isinstance(subject, functools.partial):
        subject = subject.func
    name = getattr(subject, "__qualname__", None) or getattr(subject, "__name__", None)
    name = name or type(subject).__qualname__
    return name.rsplit("<locals>.", 1)[-1].replace("<lambda>", "this block")


def promises(check: Check) -> tuple[Promise, ...]:
    """The promises of a check, in the order it tests them.

    >>> from worldblocks import testing
    >>> [promise.name for promise in promises(testing.check_slow_copy)][:2]
    ['copies', 'rate']
    """
    return check.promises  # type: ignore[attr-defined]


def suite(check: Check, *args: Any, **options: Any) -> Callable[[str], None]:
    """A pytest test of each promise of a check.

    `test_my_rssm = wb.testing.suite(wb.testing.check_dynamics, make, embed_dim=8, action_dim=2)` in
    a test file gives `test_my_rssm[a-reset-forgets]` and so on. `only` and `skip` are names of
    promises; one that does not apply to the block is a skipped test that says why.

    Raises:
        ValueError: there is no promise of such a name.
    """
    import pytest

    only, skip = options.pop("only", ()), options.pop("skip", ())
    chosen = choose(getattr(check, "__name__", "the check"), promises(check), only, skip)

    @pytest.mark.parametrize("promise", [promise.name for promise in chosen])
    def test(promise: str) -> None:
        report = check(*args, only=[promise], **options)
        if promise in report.skipped:
            pytest.skip(report.skipped[promise])

    return test


class Search(NamedTuple):
    """How promises are tested: examples a promise, small examples, all promises or the first."""

    share: float = 1.0
    shrink: bool = True
    first_only: bool = False


_search = Search()


@contextmanager
def searching(**changes: Any) -> Iterator[None]:
    """Inside, promises are tested in another way (see `Search`)."""
    global _search
    before, _search = _search, _search._replace(**changes)
    try:
        yield
    finally:
        _search = before


def for_all(
    strategy: Any, body: Callable[[Any], None], *, share: float = 1.0, also: Iterable[Any] = ()
) -> None:
    """Run a test on examples of a strategy; what it raises is that of the smallest example.

    There are as many as the hypothesis profile says, times `share`, the same in every run of the
    same code (constants of the loaded modules are among them); those of `also` come last.
    """
    import hypothesis

    worst = -math.inf

    def run(example: Any) -> None:
        nonlocal worst
        try:
            body(example)
        except Found as found:
            worst = max(worst, found.deviation)
            found.example = example if found.example is None else found.example
            raise

    count = hypothesis.settings.default.max_examples * share * _search.share  # type: ignore[union-attr]
    phases = [hypothesis.Phase.generate, *[hypothesis.Phase.shrink] * _search.shrink]
    settings = hypothesis.settings(
        max_examples=max(4, round(count)),
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        print_blob=False,
        phases=phases,
        suppress_health_check=list(hypothesis.HealthCheck),  # type: ignore[arg-type]
    )
    try:
        settings(hypothesis.given(strategy)(run))()
        for example in also:
            run(example)
    except Found as found:
        found.deviation = max(worst, found.deviation)
        raise

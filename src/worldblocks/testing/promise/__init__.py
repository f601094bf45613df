"""Promises of blocks: how they are declared, tested and reported."""

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
    """A property that every block of a kind has, and its test."""

    name: str
    sentence: str
    where: str  # to look if it is broken
    test: Callable[[Any], None]


class Report(NamedTuple):
    """The result of a check: the promises that hold, and why others did not apply."""

    kept: tuple[str, ...]
    skipped: dict[str, str]


class Violation(AssertionError):
    """A promise does not hold.

    Attributes:
        what: a sentence that says what went wrong.
        example: the input that shows it, in words.
        difference: the largest difference; NaN if none was measured.
        allowed: the largest difference that is still accepted.
    """

    def __init__(
        self, what: str, *, example: Any = None, difference: float = math.nan, allowed: float = 0.0
    ) -> None:
        super().__init__(what)
        self.what, self.example, self.allowed = what, example, allowed
        self.difference = difference


class NotApplicable(Exception):
    """A promise does not apply to this block; the message gives the reason."""


class BrokenPromise(AssertionError):
    """A block breaks one or more promises.

    The message lists for each: the promise, what went wrong, the smallest example that shows it,
    the largest difference, and where to look.

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
        self.name = ""  # of the check

    def __call__(self, name: str, sentence: str, where: str) -> Callable[[Any], Any]:
        """Register a test, which takes the check's `Case` and raises `Violation`."""

        def register(test: Callable[[Any], None]) -> Callable[[Any], None]:
            self.all.append(Promise(name, sentence, where, test))
            return test

        return register

    def include(self, other: "Promises", *names: str) -> None:
        """Register promises of another kind of block that hold for this kind too."""
        self.all += choose(other.name, other.all, names, ())

    def order(self, modules: Iterable[ModuleType], first: str = "protocol") -> None:
        """Sort the promises: the one named `first`, then module by module."""
        place = {module.__name__: number for number, module in enumerate(modules)}
        self.all.sort(key=lambda one: (one.name != first, place[one.test.__module__]))

    def check(self, check: F) -> F:
        """Decorator of the function that tests these promises."""
        self.name = check.__name__
        check.promises = tuple(self.all)  # type: ignore[attr-defined]
        return check

    def run(self, case: Any, subject: Any, only: Names, skip: Names) -> Report:
        """Test the promises one by one and report all that are broken at once.

        Raises:
            BrokenPromise: names each promise that is broken.
            ValueError: an unknown name in `only` or `skip`.
        """
        kept, skipped, broken = [], {}, []
        for promise in choose(self.name, self.all, only, skip):
            try:
                promise.test(case)
            except NotApplicable as reason:
                skipped[promise.name] = str(reason)
            except Exception as error:
                broken.append((promise, error))
                if _search.first_only:
                    break
            else:
                kept.append(promise.name)
        if broken:
            raise BrokenPromise(self.name, named(subject), broken) from broken[0][1]
        return Report(tuple(kept), skipped)


def choose(check: str, promises: Iterable[Promise], only: Names, skip: Names) -> list[Promise]:
    """The promises selected by name."""
    promises = list(promises)
    only, skip = ([name] if isinstance(name, str) else list(name) for name in (only, skip))
    names = [promise.name for promise in promises]
    if unknown := sorted({*only, *skip} - set(names)):
        raise ValueError(f"{check} has no promise {unknown}; it has {', '.join(names)}")
    return [p for p in promises if (not only or p.name in only) and p.name not in skip]


def describe(promise: Promise, error: Exception) -> str:
    """The paragraph of the message about one broken promise."""
    lines = [f"{promise.name}: {promise.sentence}"]
    if isinstance(error, Violation):
        lines.append(f"  found: {error.what}")
        if error.example is not None:
            lines.append(f"  smallest example: {error.example}")
        if not math.isnan(error.difference):
            allowed = f"(allowed: {error.allowed:.3g})"
            lines.append(f"  largest difference: {error.difference:.3g} {allowed}")
    else:
        text = str(error).strip().split("\n\n")[0]
        lines.append(f"  found: {type(error).__name__}: {text[:400]}")
    lines.append(f"  look at: {promise.where}")
    return "\n".join(lines)


def named(subject: Any) -> str:
    """The name of a block or factory, as a person would write it."""
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
    """A pytest test with one case for each promise of a check.

    `test_my_rssm = wb.testing.suite(wb.testing.check_dynamics, make, embed_dim=8, action_dim=2)` in
    a test file gives `test_my_rssm[reset-forgets]` and so on. `only` and `skip` take names of
    promises. A promise that does not apply to the block becomes a skipped test with the reason.

    Raises:
        ValueError: an unknown name in `only` or `skip`.
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
    """Settings of the search for counterexamples."""

    share: float = 1.0  # of the examples of the hypothesis profile
    shrink: bool = True  # to the smallest example
    first_only: bool = False  # stop at the first broken promise


_search = Search()


@contextmanager
def searching(**changes: Any) -> Iterator[None]:
    """Change the fields of `Search` inside the context."""
    global _search
    before, _search = _search, _search._replace(**changes)
    try:
        yield
    finally:
        _search = before


def for_all(
    strategy: Any, body: Callable[[Any], None], *, share: float = 1.0, also: Iterable[Any] = ()
) -> None:
    """Run a test on examples of a strategy; the error raised is that of the smallest example.

    The number of examples is that of the hypothesis profile times `share`. The same code draws the
    same examples in every run (hypothesis also uses constants of the loaded modules). Examples in
    `also` come last.
    """
    import hypothesis

    worst = -math.inf

    def run(example: Any) -> None:
        nonlocal worst
        try:
            body(example)
        except Violation as error:
            worst = max(worst, error.difference)
            error.example = example if error.example is None else error.example
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
    except Violation as error:
        error.difference = max(worst, error.difference)
        raise

"""The table of all comparisons, as text and as Markdown."""

import textwrap
from collections.abc import Sequence

from parity.record import Error, Row

REFERENCE = "danijar/dreamerv3 e3f02248693a79dc8b0ebd62c93683888ddaccfe"
EXCEPTIONS = 5  # allowed; more are a failure
HEAD = ("group", "case", "compared", "arrays", "values", "gradients", "tolerance", "result")
WIDE = 60  # characters of a description
NOTE = "Error of an array: max |ours - reference| / max |reference|; absolute where all are zero."


def worst(errors: Sequence[Error]) -> Error | None:
    """The error that is largest relative to its tolerance."""
    return max(errors, key=lambda error: error.error / error.tolerance, default=None)


def passed(rows: Sequence[Row]) -> bool:
    """Whether every row is within tolerance and the number of exceptions is allowed."""
    return bool(rows) and all(row.ok for row in rows) and _exceptions(rows) <= EXCEPTIONS


def text(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The table in columns, then every array beyond its tolerance."""
    lines = [part for line in [HEAD, *_lines(rows)] for part in _wrapped(line)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    table.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([f"reference: {REFERENCE}", "", *table, "", NOTE, *notes, *summary(rows)])


def markdown(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The table in Markdown, for a page of the documentation."""
    lines = [HEAD, ("---",) * len(HEAD), *_lines(rows)]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    rest = "\n\n".join([NOTE, *notes])
    return f"Reference: `{REFERENCE}`.\n\n" + "\n".join(table) + f"\n\n{rest}\n"


def summary(rows: Sequence[Row]) -> list[str]:
    """A line for each failure, and the verdict."""
    lines = []
    for row in rows:
        if row.problem:
            lines.append(f"FAIL  {row.case}: {row.problem}")
        elif not row.ok and not row.faults:
            lines.append(f"FAIL  {row.case}: nothing was compared")
        for fault in row.faults:
            more = f" ({fault.cause})" if fault.cause else ""
            lines.append(
                f"FAIL  {row.case}: {fault.array}: error {fault.error:.1e} > "
                f"{fault.tolerance:.0e}, {fault.elements} elements{more}"
            )
    if _exceptions(rows) > EXCEPTIONS:
        lines.append(f"FAIL  {_exceptions(rows)} exceptions; {EXCEPTIONS} are allowed")
    good = sum(row.ok for row in rows)
    return [*lines, f"{good} of {len(rows)} rows within tolerance, {_exceptions(rows)} exceptions"]


def _wrapped(line: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A line with a long description as several."""
    group, case, what, *rest = line
    first, *more = textwrap.wrap(what, WIDE)
    return [(group, case, first, *rest), *[("", "", part, *[""] * len(rest)) for part in more]]


def _exceptions(rows: Sequence[Row]) -> int:
    return sum(row.excepted is not None for row in rows)


def _lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    lines = []
    for row in rows:
        largest = [worst(row.values), worst(row.gradients)]
        errors = [f"{error.error:.1e}" if error else "-" for error in largest]
        tolerance = " / ".join(f"{error.tolerance:.0e}" for error in largest if error) or "-"
        count = str(len(row.values) + len(row.gradients))
        result = "ok" if row.ok else "FAIL"
        lines.append((row.group, row.case, row.what, count, *errors, tolerance, result))
        if row.excepted:
            elements, cause = row.excepted
            what = f"{elements} element{'s' * (elements != 1)}: {cause}"
            lines.append((row.group, row.case, what, "-", "-", "-", "-", "exception"))
    return lines

"""Parity with the official DreamerV3: our blocks against recorded outputs of its code.

`python tests/parity` prints the table; `run` returns its rows.
"""

from parity.arrays import Arrays
from parity.command import checks, main, notes, run
from parity.recipe import RECIPE
from parity.record import Check, Error, Excepted, Record, Row, compare
from parity.table import REFERENCE, markdown, passed, text

__all__ = [
    "RECIPE",
    "REFERENCE",
    "Arrays",
    "Check",
    "Error",
    "Excepted",
    "Record",
    "Row",
    "checks",
    "compare",
    "main",
    "markdown",
    "notes",
    "passed",
    "run",
    "text",
]

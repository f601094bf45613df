"""Parity with the official DreamerV3: recorded outputs of its code against our blocks.

`python -m worldblocks.parity` prints the table; `run` makes it in Python.
"""

from worldblocks.parity.arrays import Arrays, default_golden
from worldblocks.parity.command import checks, main, notes, run
from worldblocks.parity.recipe import default_recipe
from worldblocks.parity.record import Check, Error, Excepted, Record, Row, compare
from worldblocks.parity.table import REFERENCE, markdown, passed, text

__all__ = [
    "REFERENCE",
    "Arrays",
    "Check",
    "Error",
    "Excepted",
    "Record",
    "Row",
    "checks",
    "compare",
    "default_golden",
    "default_recipe",
    "main",
    "markdown",
    "notes",
    "passed",
    "run",
    "text",
]

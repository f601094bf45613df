"""Runs side by side: `wb.run.compare` and `python -m worldblocks.run.compare`."""

from worldblocks.run.compare.table import compare

__all__ = ["compare"]

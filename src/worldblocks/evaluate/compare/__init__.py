"""Compare runs: `wb.evaluate.compare` and `python -m worldblocks.evaluate.compare`."""

from worldblocks.evaluate.compare.table import compare

__all__ = ["compare"]

"""A small copy of a run: `wb.run.export` and `python -m worldblocks.run.export`."""

from worldblocks.run.export.copy import export

__all__ = ["export"]

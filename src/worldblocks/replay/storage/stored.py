"""Which rows of each stream are stored."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy import ndarray


@dataclass(frozen=True)
class Stored:
    """The rows that are stored: oldest … count - 1 of each stream.

    >>> stored = Stored(oldest=np.array([0, 5]), count=np.array([3, 15]))
    >>> stored.starts(4)  # windows of 4 rows: none in stream 0, rows 5 to 11 in stream 1
    array([0, 7])
    """

    oldest: Int64[ndarray, " stream"]
    count: Int64[ndarray, " stream"]

    def starts(self, window: int) -> Int64[ndarray, " stream"]:
        """Number of rows at which a window can start: oldest … count - window."""
        return np.maximum(self.count - self.oldest - window + 1, 0)


def rows_between(
    start: Int64[ndarray, " stream"], stop: Int64[ndarray, " stream"]
) -> tuple[Int64[ndarray, " row"], Int64[ndarray, " row"]]:
    """The stream and the number of rows start … stop - 1 of each stream, stream after stream.

    >>> rows_between(np.array([7, 4]), np.array([9, 5]))
    (array([0, 0, 1]), array([7, 8, 4]))
    """
    rows = stop - start
    stream = np.arange(len(rows)).repeat(rows)
    return stream, start[stream] + np.arange(len(stream)) - (rows.cumsum() - rows)[stream]

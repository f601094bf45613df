"""Checks of the sizes of a replay, of the windows asked for, and of those that a selector drew."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from worldblocks._wrong_call import described, did_you_mean
from worldblocks.replay.selectors import Drawn, Selector
from worldblocks.replay.storage.stored import Stored


def check_sizes(capacity: int, streams: int, length: int, context: int) -> None:
    """Check the sizes of a replay.

    Raises:
        ValueError: a number is out of range, or a stream has no room for a window.
    """
    sizes = {"capacity": capacity, "streams": streams, "length": length, "context": context}
    _check_whole("a replay", sizes)
    if streams < 1 or length < 1 or context not in (0, 1):
        raise ValueError(
            f"got streams={streams}, length={length}, context={context}; streams and length "
            f"must be at least 1, context 0 or 1"
        )
    if capacity < streams:
        raise ValueError(
            f"capacity={capacity} leaves some of {streams} streams without a window; it counts "
            f"window starts over all streams, so use at least {streams}"
        )


def check_windows(batch_size: int, length: int, context: int, kept: int, count: int) -> None:
    """Check that windows of `context` + `length` rows can be drawn.

    A stream keeps at most `kept` rows; the longest has received `count`.

    Raises:
        ValueError: there is no such window yet, or there can never be one.
    """
    _check_whole("sample", {"batch_size": batch_size, "length": length})
    if batch_size < 1 or length < 1:
        raise ValueError(
            f"{batch_size} windows of {length} rows cannot be drawn; both must be at least 1"
        )
    window = length + context
    rows = f"{window} rows (one of them context)" if context else f"{window} rows"
    if window > kept:
        raise ValueError(
            f"windows of {rows} cannot be drawn from a replay that keeps {kept} rows per stream; "
            f"use a larger capacity"
        )
    if window > count:
        raise ValueError(
            f"windows of {rows} cannot be drawn yet: the longest stream has {count} rows; add "
            f"{window - count} more, or ask for shorter windows"
        )


def check_counts(counts: Mapping[str, int], tasks: Sequence[str]) -> None:
    """Check that windows are asked for by task.

    Raises:
        TypeError: they are not counted by task.
        KeyError: there is no such task.
    """
    if not isinstance(counts, Mapping):
        raise TypeError(
            f"sample takes a number of windows by task, such as {dict.fromkeys(tasks, 4)}, got "
            f"{described(counts)}"
        )
    if unknown := sorted(set(counts) - set(tasks)):
        near = did_you_mean(unknown[0], tasks)
        raise KeyError(f"this replay has no tasks {unknown}; it has {list(tasks)}{near}")


def _check_whole(what: str, sizes: Mapping[str, Any]) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral):
            remedy = f"use {name}=int({size:g})" if isinstance(size, float) else "use an int"
            raise TypeError(f"{what} takes {name} as an int, got {described(size)}; {remedy}")


def check_drawn(selector: Selector, drawn: Drawn, size: int, window: int, stored: Stored) -> Drawn:
    """A copy of the windows that a selector drew, after checking that they are stored.

    Raises:
        ValueError: they are not integers, not `size` windows, or not stored.
    """
    name, last = type(selector).__name__, stored.count - window
    stream, start = np.asarray(drawn.stream).copy(), np.asarray(drawn.start).copy()
    weight = None if drawn.weight is None else np.asarray(drawn.weight).astype(np.float32)
    for part, array in (("streams", stream), ("starts", start)):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise ValueError(
                f"{name}.draw gave {part} as {array.dtype}{list(array.shape)}; they must be "
                f"integers, one for each of {size} windows"
            )
    drawn = Drawn(stream.astype(np.int64, copy=False), start.astype(np.int64, copy=False), weight)
    lengths = [len(part) for part in drawn if part is not None]
    if lengths != [size] * len(lengths):
        raise ValueError(
            f"{name}.draw was asked for {size} windows and gave {len(stream)} streams, "
            f"{len(start)} starts"
            + ("" if weight is None else f" and {len(weight)} weights")
            + f"; it must give {size} of each"
        )
    if stream.min() < 0 or stream.max() >= len(last):
        raise ValueError(
            f"{name}.draw gave streams {stream.min()} to {stream.max()}; this replay has streams "
            f"0 to {len(last) - 1}"
        )
    outside = (start < stored.oldest[stream]) | (start > last[stream])
    if outside.any():
        place = int(outside.argmax())
        where = stream[place]
        raise ValueError(
            f"{name}.draw gave a window of {window} rows from row {start[place]} of stream "
            f"{where}, which stores rows {stored.oldest[where]} to {stored.count[where] - 1}; a "
            f"start is at least stored.oldest and at most stored.count - window"
        )
    return drawn

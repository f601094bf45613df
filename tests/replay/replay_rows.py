"""Rows whose numbers encode their row and stream."""

from typing import NamedTuple

import torch
from torch import Tensor

from worldblocks.replay import SequenceReplay
from worldblocks.replay.tree import flatten


class Packed(NamedTuple):
    """A packed carry with bfloat16 numbers, indices and a nested tuple."""

    deter: Tensor
    stoch: Tensor
    more: tuple[Tensor, ...]


def identity(time: int, streams: int) -> Tensor:
    return time * streams + torch.arange(streams)


def packed(number: Tensor) -> Packed:
    """The carry that encodes numbers `*batch` below 65536."""
    high, low = number // 256, number % 256
    deter = low[..., None].to(torch.bfloat16).expand(*number.shape, 7)  # 8 bits are exact
    return Packed(deter, high[..., None].to(torch.uint8).expand(*number.shape, 2), (number,))


def number(carry: Packed) -> Tensor:
    """The inverse of `packed`; all parts must agree."""
    assert carry.deter.dtype == torch.bfloat16
    assert carry.stoch.dtype == torch.uint8
    (number,) = carry.more
    torch.testing.assert_close(packed(number), carry, rtol=0, atol=0)
    return number


def row(time: int, streams: int, **changes) -> dict:
    """Arguments of `add` for one row of every stream."""
    return row_of(identity(time, streams), **changes)


def row_of(which: Tensor, **changes) -> dict:
    """Arguments of `add` for rows with these identities, `row`."""
    flag = torch.zeros(len(which), dtype=torch.bool)
    values = {
        "obs": {
            "image": (which % 256).to(torch.uint8)[:, None, None, None].expand(-1, 4, 6, 1),
            "which": which,
        },
        "prev_action": (which + 0.5)[:, None].expand(-1, 5),
        "reward": which.float(),
        "is_first": flag,
        "is_last": flag,
        "is_terminal": flag,
        "carry": packed(which),
    }
    return values | changes


def filled(rows: int, **sizes) -> SequenceReplay:
    """A replay with `rows` rows added."""
    replay = SequenceReplay(**{"capacity": 24, "streams": 3, "length": 5} | sizes)
    for time in range(rows):
        replay.add(**row(time, replay.streams))
    return replay


def equal(batch, other) -> None:
    """Check that two batches are equal to the bit."""
    ours, theirs = flatten(batch, "batch")[0], flatten(other, "batch")[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

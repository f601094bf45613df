"""Batches of experience, and how they are gathered from the stored rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.selectors import Drawn
from worldblocks.replay.storage.layout import FIXED
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.tree import map_leaves


class Batch(NamedTuple):
    """Rows of experience. In batches from replay the axes `*batch` are `batch time`.

    Row t holds an observation, the reward and flags that arrived with it, and `prev_action`, the
    action that *led to* it:

        row            t-1              t               t+1
        carry          carry[t-1]
        prev_action    a[t-2] -->       a[t-1] -->      a[t] -->
        obs            o[t-1]           o[t]            o[t+1]
        reward         r[t-1]           r[t]            r[t+1]

    Attributes:
        obs: one tensor per key, `*batch ...`; images are `*batch height width channel` uint8.
        prev_action: one-hots and values, concatenated in sorted key order.
        reward: reward that arrived with the observation.
        is_first: the episode starts here; neither `prev_action` nor a carry leads to this row.
        is_last: the episode ends here, by termination or a time limit.
        is_terminal: the episode terminates here; a time limit is not terminal.
        carry: packed carry stored with the row *before* row 0, any pytree of `batch ...`; None if
            the replay has no context.
        row: index of each stored row, for `SequenceReplay.write_back` and `update`; None for rows
            that are not from a replay.
        weight: importance weight of the window that each row is in; None if all are 1.
    """

    obs: dict[str, Shaped[Tensor, "..."]]
    prev_action: Float32[Tensor, "*batch action"]
    reward: Float32[Tensor, "*batch"]
    is_first: Bool[Tensor, "*batch"]
    is_last: Bool[Tensor, "*batch"]
    is_terminal: Bool[Tensor, "*batch"]
    carry: Any = None
    row: Int64[Tensor, "*batch"] | None = None
    weight: Float32[Tensor, "*batch"] | None = None

    def map(self, function: Callable[[Any], Any]) -> "Batch":
        """Apply a function to every tensor, for example a slice. None stays None."""
        return map_leaves(lambda _, leaf: function(leaf), self, "batch")

    def last(self, rows: int) -> "Batch":
        """The last rows of each window, `batch rows ...`, with `carry=None`.

        Raises:
            ValueError: `rows` is less than 1 or more than the rows of a window.
        """
        time = self.reward.shape[1]
        if not 1 <= rows <= time:
            raise ValueError(f"last({rows}) was called on windows of {time} rows; use 1 to {time}")
        part = self._replace(carry=None)
        return part.map(lambda leaf: leaf[:, -rows:])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Move the batch to a device, except `row`, which stays in host memory."""
        if self.reward.device == device:
            return self

        def move(name: str, leaf: Tensor) -> Tensor:
            return leaf if name == "batch/row" else leaf.to(device, non_blocking=non_blocking)

        return map_leaves(move, self, "batch")


def gather_rows(rings: Rings, drawn: Drawn, length: int, context: int, pin: bool = False) -> Batch:
    """Gather windows of `length` rows, `context` rows after the starts drawn, without a carry.

    The result is the same at any time while the windows are stored.
    """
    stream, start = (torch.from_numpy(part)[:, None] for part in drawn[:2])
    time = start + torch.arange(context, context + length)
    slot = rings.slot(stream, time)
    rows = {name: rings.take(name, slot, pin) for name in FIXED}
    is_first, is_last = rows["is_first"], rows["is_last"]
    if not context:
        is_first[:, 0] = True  # no carry to continue from
    # An abandoned episode has no end: its last row is the one before the next first row.
    is_last[:, :-1] |= is_first[:, 1:]
    observed = [name for name in rings.layout if name.startswith("obs/")]
    weight = None
    if drawn.weight is not None:
        weight = torch.from_numpy(drawn.weight)[:, None].repeat(1, length).to(rings.device)
    return Batch(
        obs={name.removeprefix("obs/"): rings.take(name, slot, pin) for name in observed},
        row=time * rings.streams + stream,  # as `places` reads it
        weight=weight,
        **rows,
    )


def gather_carry(rings: Rings, drawn: Drawn, template: Any, pin: bool = False) -> Any:
    """Gather the current carries of the first rows of the windows drawn.

    `template` has the structure of a carry, with a name of `rings` at each leaf.
    """
    slot = rings.slot(*(torch.from_numpy(part) for part in drawn[:2]))
    return map_leaves(lambda _, name: rings.take(name, slot, pin), template, "carry")


def places(
    what: str, row: Int64[Tensor, "*batch"] | None, rings: Rings | None
) -> tuple[Rings, Int64[Tensor, " row"], Int64[Tensor, " row"]]:
    """The stream and the time of each `Batch.row`; `what` is called with them.

    Raises:
        ValueError: a row was never added.
    """
    if row is None:
        raise ValueError(f"{what} needs rows from a replay, got a batch with row=None")
    rows = row.flatten().cpu()
    unknown = len(rows)
    if rings is not None:
        stream, time = rows % rings.streams, rows // rings.streams
        unknown = int(((time < 0) | (time >= torch.from_numpy(rings.count)[stream])).sum())
        if not unknown:
            return rings, stream, time
    raise ValueError(
        f"{unknown} of {len(rows)} rows given to {what} were never added; pass the `row` of a "
        f"batch sampled from this replay"
    )

"""What replay hands to training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.layout import FIXED
from worldblocks.replay.rings import Rings
from worldblocks.replay.selectors import Drawn
from worldblocks.replay.tree import map_leaves


class Batch(NamedTuple):
    """Rows of experience; from replay the axes `*batch` are `batch time`.

    Row t is an observation, the reward and flags that arrived with it, and `prev_action`, the
    action that *led to* it:

        row            t-1              t               t+1
        carry          carry[t-1]
        prev_action    a[t-2] -->       a[t-1] -->      a[t] -->
        obs            o[t-1]           o[t]            o[t+1]
        reward         r[t-1]           r[t]            r[t+1]

    Attributes:
        obs: one tensor a key, `*batch ...`; images are `*batch height width channel` uint8.
        prev_action: one-hots and values, concatenated in sorted key order.
        reward: arrived with the observation.
        is_first: the observation opens an episode; neither `prev_action` nor a carry leads to it.
        is_last: the observation closes an episode, by its end or by a time limit.
        is_terminal: nothing follows the observation; a time limit is not terminal.
        carry: the packed carry stored with the row *before* row 0, any pytree of `batch ...`;
            None when the replay keeps no context.
        row: which stored row each is, for `SequenceReplay.write_back`; None for rows that no
            replay holds.
    """

    obs: dict[str, Shaped[Tensor, "..."]]
    prev_action: Float32[Tensor, "*batch action"]
    reward: Float32[Tensor, "*batch"]
    is_first: Bool[Tensor, "*batch"]
    is_last: Bool[Tensor, "*batch"]
    is_terminal: Bool[Tensor, "*batch"]
    carry: Any
    row: Int64[Tensor, "*batch"] | None

    def map(self, function: Callable[[Any], Any]) -> "Batch":
        """A function of every tensor, for example a slice; what is None stays None."""
        return map_leaves(lambda _, leaf: function(leaf), self, "batch")

    def last(self, rows: int) -> "Batch":
        """The last rows of each window, `batch rows ...`; no stored carry leads to them.

        Raises:
            ValueError: fewer than one row, or more than there are.
        """
        time = self.reward.shape[1]
        if not 1 <= rows <= time:
            raise ValueError(
                f"the last {rows} rows were asked of windows of {time} rows; 1 to {time} would do"
            )
        part = self._replace(carry=None)
        return part.map(lambda leaf: leaf[:, -rows:])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on a device, all but `row`: rows are looked up in host memory."""

        def move(name: str, leaf: Tensor) -> Tensor:
            return leaf if name == "batch/row" else leaf.to(device, non_blocking=non_blocking)

        return map_leaves(move, self, "batch")


def gather_rows(rings: Rings, drawn: Drawn, length: int, context: int, pin: bool = False) -> Batch:
    """Windows of `length` rows that start `context` rows after those drawn, without their carry.

    As long as the windows are stored, this gives the same at any moment.
    """
    stream, start = (torch.from_numpy(part)[:, None] for part in drawn)
    time = start + torch.arange(context, context + length)
    slot = rings.slot(stream, time)
    rows = {name: rings.take(name, slot, pin) for name in FIXED}
    is_first, is_last = rows["is_first"], rows["is_last"]
    if not context:
        is_first[:, 0] = True  # there is no carry to continue from
    # An episode may have been abandoned without its end: its last row is the one before a first.
    is_last[:, :-1] |= is_first[:, 1:]
    observed = [name for name in rings.layout if name.startswith("obs/")]
    return Batch(
        obs={name.removeprefix("obs/"): rings.take(name, slot, pin) for name in observed},
        carry=None,
        row=time * rings.streams + stream,
        **rows,
    )


def gather_carry(rings: Rings, drawn: Drawn, template: Any, pin: bool = False) -> Any:
    """The carries stored now with the first rows of the windows drawn.

    `template` is the structure of a carry, a name of `rings` at each leaf.
    """
    slot = rings.slot(*(torch.from_numpy(part) for part in drawn))
    return map_leaves(lambda _, name: rings.take(name, slot, pin), template, "carry")

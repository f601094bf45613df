"""What a replay draws: the windows of training, those of reports, and those drawn ahead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from worldblocks.replay.batch import Batch, gather_carry, gather_rows, places
from worldblocks.replay.checks import check_drawn
from worldblocks.replay.gatherer import Gatherer
from worldblocks.replay.selectors import (
    NONE,
    Drawn,
    Selector,
    Uniform,
    load_named,
    named_state,
)
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.storage.stored import Stored, rows_between


class Sampler:
    """Batches of the windows that a selector draws.

    With `prefetch`, the windows of the next batch are drawn when a batch is returned. They are part
    of the state, so that a resumed run continues with the same batches. Those that are evicted in
    the meantime are drawn again.

    Args:
        selector: draws the windows of training.
        seed: seed of the windows of another length.
        length, context, device, prefetch: as for `SequenceReplay`.
    """

    def __init__(
        self,
        selector: Selector,
        seed: int,
        length: int,
        context: int,
        device: torch.device,
        prefetch: bool,
    ) -> None:
        if isinstance(selector, type) or not hasattr(selector, "draw"):
            raise ValueError(
                f"a selector has the method draw(size, window, stored), got {selector!r}; give an "
                f"object, such as wb.replay.Uniform(seed)"
            )
        self.selector = selector
        self._evaluation = Uniform([seed, 1])  # so that reports do not change training
        self._length, self._context, self._device = length, context, device
        self._gatherer = Gatherer(length, context, device)
        self._prefetch = prefetch
        self._ahead = NONE  # windows of batches that were not returned yet

    def batch(self, rings: Rings, size: int, carry: Any) -> Batch:
        """The next batch of training; `carry` is the template of a carry."""
        self._ahead = self._drawn_ahead(rings, size)
        batch = self._gatherer.batch(rings, self._ahead.part(slice(size)), carry)
        self._ahead = self._ahead.part(slice(size, None))
        if self._prefetch:
            self._ahead = self._drawn_ahead(rings, size)
            self._gatherer.prepare(rings, self._ahead.part(slice(size)))
        return batch

    def evaluation(self, rings: Rings, size: int, length: int, carry: Any) -> Batch:
        """Windows of another length, drawn uniformly without a trace in training."""
        drawn = self._evaluation.draw(size, length + self._context, rings.stored)
        batch = gather_rows(rings, drawn, length, self._context)
        return batch._replace(carry=gather_carry(rings, drawn, carry)).to(self._device)

    @property
    def listens(self) -> bool:
        """True if the selector wants to know which rows are added or evicted."""
        return hasattr(self.selector, "added") or hasattr(self.selector, "evicted")

    def changed(self, before: Stored, after: Stored) -> None:
        """Tell the selector which rows were evicted and added.

        An episode longer than the ring has rows that were never stored; they are not mentioned.
        """
        for name, start, stop in (
            ("evicted", before.oldest, np.minimum(after.oldest, before.count)),
            ("added", np.maximum(before.count, after.oldest), after.count),
        ):
            listener = getattr(self.selector, name, None)
            if listener is not None and (start < stop).any():
                listener(*rows_between(start, stop))

    def update(
        self,
        rings: Rings | None,
        row: Int64[Tensor, "*batch"] | None,
        value: Float[Tensor, "*batch"],
    ) -> None:
        """Give the selector the values of those rows that are stored."""
        update = getattr(self.selector, "update", None)
        if update is None:
            raise ValueError(
                f"replay.update was called, and {type(self.selector).__name__} has no method "
                f"update(stream, row, value); create the replay with a selector that has one"
            )
        rings, *place = places("update", row, rings)
        if row is not None and value.shape != row.shape:
            raise ValueError(
                f"update takes a value for each row, got values {list(value.shape)} for rows "
                f"{list(row.shape)}"
            )
        stream, time = (part.numpy() for part in place)
        stays = time >= rings.stored.oldest[stream]
        numbers = value.detach().float().cpu().flatten().numpy()
        update(stream[stays], time[stays], numbers[stays])

    def state(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "selector": named_state(self.selector),
            "evaluation": self._evaluation.state(),
            "ahead": [None if part is None else part.tolist() for part in self._ahead],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`.

        Raises:
            ValueError: the selector is of another class.
        """
        load_named(self.selector, state["selector"])
        self._evaluation.load(state["evaluation"])
        stream, start, weight = state["ahead"]
        self._ahead = Drawn(
            np.array(stream, np.int64),
            np.array(start, np.int64),
            None if weight is None else np.array(weight, np.float32),
        )

    def close(self) -> None:
        """Stop the thread."""
        self._gatherer.close()

    def _drawn_ahead(self, rings: Rings, size: int) -> Drawn:
        """At least `size` windows that are stored: those drawn before, completed by new ones."""
        stored, window = rings.stored, self._length + self._context
        ahead = self._ahead
        if len(ahead.stream):
            ahead = ahead.part(ahead.start >= stored.oldest[ahead.stream])
        missing = size - len(ahead.stream)
        if missing <= 0:
            return ahead
        drawn = self.selector.draw(missing, window, stored)
        drawn = check_drawn(self.selector, drawn, missing, window, stored)
        return ahead.followed_by(drawn)

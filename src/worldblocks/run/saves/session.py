"""Save and restore everything a run continues from."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks.run.device.devices import rng_state, set_rng_state
from worldblocks.run.saves.checkpoint import Checkpoint, Store
from worldblocks.run.saves.weights import load_module_state

# Parts and positions that earlier versions of the recipes saved under another name.
EARLIER = {"train_ratio": "due", "video": "show", "search": "quest", "task_envs": "players"}
EARLIER |= {"acting": "carry"}


class Stateful(Protocol):
    """Something with a small state, such as a module, an optimiser or a logger."""

    def state_dict(self) -> Any:
        """The state: nested lists and dicts of tensors, numbers, strings and bytes."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Continue from that state."""
        ...


class Session:
    """A checkpoint of the parts of a run, the position of its loop and the random states.

    A part with `state_dict` is saved in the state file. A part that writes its own files (a replay
    buffer, see `Store`) has a folder next to it.

    >>> import tempfile
    >>> import torch
    >>> layer, optimizer = nn.Linear(2, 1), torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    >>> folder = tempfile.TemporaryDirectory()
    >>> session = Session(Checkpoint(folder.name), {"layer": layer, "optimizer": optimizer})
    >>> session.restore(step=0)["step"]
    0
    >>> session.save(step=7)
    >>> session.restore(step=0)["step"]
    7
    >>> folder.cleanup()
    """

    def __init__(self, checkpoint: Checkpoint, parts: Mapping[str, Stateful | Store]) -> None:
        """Args:
        checkpoint: Where to save.
        parts: The parts by the names under which they are saved.
        """
        self.checkpoint = checkpoint
        self.stores = {k: p for k, p in parts.items() if not hasattr(p, "state_dict")}
        self.parts = {k: p for k, p in parts.items() if k not in self.stores}

    def save(self, **position: Any) -> None:
        """Save every part, the random states and the position (pytrees of numbers and tensors)."""
        state = {name: part.state_dict() for name, part in self.parts.items()}  # type: ignore[union-attr]
        state["position"] = {name: pytree.tree_leaves(value) for name, value in position.items()}
        self.checkpoint.save(state | {"rng": rng_state()}, stores=self.stores)  # type: ignore[arg-type]

    def restore(self, **position: Any) -> dict[str, Any]:
        """Load every part from the checkpoint; without a checkpoint nothing changes.

        Args:
            position: The position of a new run. A saved position must have the same structure; its
                tensors are moved to the devices of these.

        Returns:
            The saved position, or `position` if there is no checkpoint.

        Raises:
            ValueError: A file is truncated or corrupted, or a part does not fit.
        """
        if not self.checkpoint.exists():
            return position
        state = self.checkpoint.load()
        _complete_rows(state)
        self.checkpoint.load_stores(self.stores)  # type: ignore[arg-type]
        for name, part in self.parts.items():
            saved = _named(state, name)
            if isinstance(part, nn.Module):
                load_module_state(part, saved)
            else:
                part.load_state_dict(saved)  # type: ignore[union-attr]
        set_rng_state(state["rng"])
        saved = state["position"]
        return {
            name: unflatten_like(value, _named(saved, name)) for name, value in position.items()
        }


def unflatten_like(value: Any, leaves: list[Any]) -> Any:
    """Saved leaves in the structure of `value`, tensors on the devices of its tensors."""
    if isinstance(value, list):
        return leaves
    own, structure = pytree.tree_flatten(value)
    pairs = zip(leaves, own, strict=True)
    moved = [x.to(y.device) if isinstance(y, Tensor) else x for x, y in pairs]
    return pytree.tree_unflatten(moved, structure)


def with_prev_action(vector: Any, acting: list[Any], size: int | None = None) -> Any:
    """The state of a vector; rows saved before they had a `prev_action` get that of `acting`.

    `acting` has the leaves of what the agent carried; `size` is the width of an action without
    padding.
    """
    rows = vector.get("rows") if isinstance(vector, Mapping) else None
    if not isinstance(rows, Mapping) or "prev_action" in rows:
        return vector  # a vector of the user's own has a state of its own
    return {**vector, "rows": {**rows, "prev_action": acting[-1][:, :size]}}


def _complete_rows(state: dict[str, Any]) -> None:
    position = state["position"]
    acting = position.get("acting", position.get(EARLIER["acting"]))
    if acting and "envs" in state:
        state["envs"] = with_prev_action(state["envs"], acting)


def _named(saved: Mapping[str, Any], name: str) -> Any:
    return saved[name if name in saved else EARLIER.get(name, name)]

"""Load the weights of a checkpoint into a module, all or none."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def load_module_state(module: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Copy tensors into a module whose state dict has exactly their names and shapes.

    Args:
        module: The module.
        tensors: Tensors by name, as `Checkpoint.weights` returns them.

    Raises:
        ValueError: A tensor is missing, superfluous or of another shape. The module is unchanged.
    """
    needed = module.state_dict()
    for name, own in needed.items():
        if name not in tensors:
            raise ValueError(
                f"the model needs {name!r} {list(own.shape)}, which the checkpoint does not have: "
                f"a checkpoint of another model; build it as the run's config.json says"
            )
        given = list(tensors[name].shape)
        if given != list(own.shape):
            raise ValueError(
                f"{name!r} is {given} in the checkpoint and {list(own.shape)} in the model: a "
                f"checkpoint of another model size; build it as the run's config.json says"
            )
    for name in tensors:
        if name not in needed:
            raise ValueError(
                f"the checkpoint has {name!r} {list(tensors[name].shape)}, which the model does "
                f"not: a checkpoint of another model; build it as the run's config.json says"
            )
    module.load_state_dict(dict(tensors), strict=True)

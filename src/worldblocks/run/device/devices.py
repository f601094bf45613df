"""The device of a name or a module, and the state of torch's generators on every device."""

from typing import Any

import torch
from torch import nn


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` is the GPU if there is one, else the CPU.

    >>> pick_device("cpu")
    device(type='cpu')

    Raises:
        ValueError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty((), device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both, in words of its own
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"there is no device {name!r} on this machine; --device takes auto or one of "
            f"{', '.join(there)}"
        ) from error
    return device


def device_of(module: nn.Module) -> torch.device:
    """The device of a module whose parameters are all on one device.

    >>> device_of(nn.Linear(2, 3))
    device(type='cpu')
    """
    return next(module.parameters()).device


def rng_state() -> dict[str, Any]:
    """The state of torch's generator on the CPU and on every CUDA device.

    Models draw from these generators only. Host-side code (replay, environments) owns seeded
    generators and saves them itself. Python's and NumPy's global generators are not used.

    >>> state = rng_state()
    >>> first = torch.rand(2)
    >>> set_rng_state(state)
    >>> torch.equal(torch.rand(2), first)
    True
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device) for device in devices],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned; devices that this machine lacks are skipped."""
    torch.set_rng_state(state["cpu"])
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, generator in enumerate(state["cuda"][:available]):
        torch.cuda.set_rng_state(generator, device)

"""The state of torch's default generators."""

from typing import Any

import torch


def rng_state() -> dict[str, Any]:
    """The state of torch's generator on the CPU and on every CUDA device.

    Models draw from these and from nothing else; host-side code (replay, environments) owns seeded
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
    """Put back what `rng_state` returned; devices that this machine does not have are left out."""
    torch.set_rng_state(state["cpu"])
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, generator in enumerate(state["cuda"][:available]):
        torch.cuda.set_rng_state(generator, device)

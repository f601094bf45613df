"""Reinforcement-learning building blocks in PyTorch, each importable alone.

Import the package as `wb`; a submodule loads when it is first used:

>>> import worldblocks as wb
>>> wb.spaces.action_size({"jump": wb.spaces.Discrete(2), "arm": wb.spaces.Continuous((3,))})
5
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an editor sees; at run time `__getattr__` imports on first use
    from worldblocks import (
        balance,
        decoders,
        diagnose,
        distributions,
        ema,
        encoders,
        envs,
        evaluate,
        heads,
        interop,
        language,
        layers,
        losses,
        normalize,
        optim,
        recipes,
        replay,
        returns,
        rssm,
        run,
        spaces,
        tasks,
        testing,
        transforms,
        typing,
    )

__version__ = "0.1.0"

__all__ = [
    "balance",
    "decoders",
    "diagnose",
    "distributions",
    "ema",
    "encoders",
    "envs",
    "evaluate",
    "heads",
    "interop",
    "language",
    "layers",
    "losses",
    "normalize",
    "optim",
    "recipes",
    "replay",
    "returns",
    "rssm",
    "run",
    "spaces",
    "tasks",
    "testing",
    "transforms",
    "typing",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"worldblocks has no module {name!r}; it has {', '.join(__all__)}", name=name, obj=None
    )


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""The catalogue of deliberate faults, written before the checks that find them."""

from . import (
    agents,
    distributions,
    dynamics,
    environments,
    losses,
    perception,
    replays,
    returns,
    running,
)
from .mutant import MUTANTS, Mutant

__all__ = [
    "MUTANTS",
    "Mutant",
    "agents",
    "distributions",
    "dynamics",
    "environments",
    "losses",
    "perception",
    "replays",
    "returns",
    "running",
]

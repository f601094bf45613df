"""The model sizes of the reference, to the exact count of parameters of each module."""

import json

import pytest
import torch

from golden_folder import GOLDEN
from parity import RECIPE
from parity.recipe import SCOPES, load_recipe
from worldblocks.spaces import Continuous, Discrete, Image

COUNTS = json.loads((GOLDEN / "param_counts.json").read_text())
UNITS = {"1m": 64, "12m": 256, "25m": 384, "50m": 512, "100m": 768, "200m": 1024, "400m": 1536}
WALKER = {"orientations": Continuous((14,)), "height": Continuous(), "velocity": Continuous((9,))}
SPACES = {
    "rgb64_disc18": ({"image": Image(64, 64, 3)}, {"action": Discrete(18)}),
    "gray96_disc18": ({"image": Image(96, 96, 1)}, {"action": Discrete(18)}),
    "walker_proprio": (WALKER, {"action": Continuous((6,))}),
}


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


@pytest.mark.parametrize("name", COUNTS)
def test_count(name, recipe):
    """One number, the units, makes a size: the preset names follow from it alone."""
    spaces, size = name.split("/size")
    with torch.device("meta"):
        agent = recipe.Agent(*SPACES[spaces], recipe.Config(units=UNITS[size]))
    ours = {
        scope: sum(p.numel() for p in agent.get_submodule(module).parameters())
        for scope, module in SCOPES.items()
    }
    assert {**ours, "total": sum(ours.values())} == COUNTS[name]
    trained = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert trained == COUNTS[name]["total"]  # the slow critic is not trained

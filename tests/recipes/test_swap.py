"""Every diff of the page "Swap a block" applies to the recipes, and the agent it makes learns."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import worldblocks as wb
from worldblocks.replay import Batch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "swap.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RECIPES = sorted((ROOT / "recipes").glob("dreamerv3_*.py"))
LINES = 10

BATCH, TIME = 2, 6
OBSERVED = {"view": wb.spaces.Image(48, 48, 3), "speed": wb.spaces.Continuous((2,))}
ACTIONS = {"act": wb.spaces.Discrete(3), "push": wb.spaces.Continuous((2,))}


def hunks(diff):
    """Pairs of the lines that go and those that come in their place."""
    found = re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", diff, re.MULTILINE)
    assert "".join(old + new for old, new in found) == diff, "only lines with - and +"
    return [[re.sub(r"^.", "", part, flags=re.MULTILINE) for part in pair] for pair in found]


def swapped(source, diff):
    for old, new in hunks(diff):
        assert source.count(old) == 1, f"not once in the recipe:\n{old}"
        source = source.replace(old, new)
    return source


def batch(agent):
    first = torch.zeros(BATCH, TIME, dtype=torch.bool)
    first[1, 3] = True
    obs = {"view": torch.randint(256, (BATCH, TIME, 48, 48, 3), dtype=torch.uint8)}
    obs["speed"] = torch.randn(BATCH, TIME, 2)
    action, never = torch.rand(BATCH, TIME, 5), torch.zeros_like(first)
    reward, carry = torch.randn(BATCH, TIME), agent.rssm.initial(BATCH)
    return Batch(obs, action, reward, first, never, never, carry, None)


def test_the_page_has_its_diffs():
    assert len(DIFFS) >= 5
    assert all(len(diff.splitlines()) <= LINES for diff in DIFFS)


@pytest.mark.parametrize("diff", DIFFS, ids=range(len(DIFFS)))
def test_a_swap_is_for_every_recipe(diff):
    for path in RECIPES:
        compile(swapped(path.read_text(encoding="utf-8"), diff), path.name, "exec")


@pytest.mark.parametrize("diff", DIFFS, ids=range(len(DIFFS)))
def test_a_swapped_recipe_learns(diff, monkeypatch):
    source = (ROOT / "recipes" / "dreamerv3_gym.py").read_text(encoding="utf-8")
    recipe = ModuleType("swapped")
    monkeypatch.setitem(sys.modules, "swapped", recipe)  # dataclasses look themselves up there
    exec(compile(swapped(source, diff), "swapped", "exec"), recipe.__dict__)
    cfg = recipe.PRESETS["smoke"]
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    rows = batch(agent)
    before = {name: p.clone() for name, p in agent.rssm.named_parameters()}
    for _ in range(3):
        post, metrics = recipe.update(agent, optimizer, rows, cfg)
        assert all(metric.isfinite() for metric in metrics.values())
    assert post.deter.shape == (BATCH, TIME, cfg.deter)
    same = [name for name, p in agent.rssm.named_parameters() if torch.equal(p, before[name])]
    # Three free nats are more than the KL of a new agent: they leave its prior as it is.
    assert all("prior" in name for name in same)
    assert (same == []) == ("free_nats=3.0" not in diff)
    packed = agent.rssm.pack(post.carry)
    assert all(map(torch.equal, agent.rssm.unpack(packed), post.carry))
    obs = {key: value[:, 0] for key, value in rows.obs.items()}
    action, carry = recipe.act(agent, obs, agent.initial(BATCH), torch.ones(BATCH) > 0)
    assert action.shape == (BATCH, 5)
    assert type(carry[0]) is type(post.carry)

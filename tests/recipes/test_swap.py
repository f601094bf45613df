"""Every diff of the page "Swap a block" applies to the recipes, and the changed agent learns."""

import dataclasses
from pathlib import Path

import pytest
import tiny_runs
import torch

import worldblocks as wb
from changed_recipes import changed, gym_recipe, page_diffs
from worldblocks.replay import Batch

DIFFS = page_diffs("swap.md")
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("dreamerv3_*.py"))
LINES = 10

BATCH, TIME = 2, 6
OBSERVED = {"view": wb.spaces.Image(48, 48, 3), "speed": wb.spaces.Continuous((2,))}
ACTIONS = {"act": wb.spaces.Discrete(3), "push": wb.spaces.Continuous((2,))}


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
def test_a_swap_applies_to_every_recipe(diff):
    for path in RECIPES:
        compile(changed(path.read_text(encoding="utf-8"), diff), path.name, "exec")


@pytest.mark.parametrize("diff", DIFFS, ids=range(len(DIFFS)))
def test_a_swapped_recipe_learns(diff):
    recipe = gym_recipe([diff])
    cfg = recipe.PRESETS["smoke"]
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    rows = batch(agent)
    before = {name: p.clone() for name, p in agent.rssm.named_parameters()}
    for _ in range(3):
        post, metrics = recipe.update(agent, optimizer, rows, cfg)
        assert all(metric.isfinite() for metric in metrics.values())
    assert post.deter.shape == (BATCH, TIME, cfg.deter)
    same = [name for name, p in agent.rssm.named_parameters() if torch.equal(p, before[name])]
    # Three free nats exceed the KL of a new agent: its prior gets no gradient.
    assert all("prior" in name for name in same)
    assert (same == []) == ("free_nats=3.0" not in diff)
    packed = agent.rssm.pack(post.carry)
    assert all(map(torch.equal, agent.rssm.unpack(packed), post.carry))
    obs = {key: value[:, 0] for key, value in rows.obs.items()}
    action, acting = recipe.act(agent, obs, agent.initial(BATCH), torch.ones(BATCH) > 0)
    assert action.shape == (BATCH, 5)
    assert type(acting.dynamics) is type(post.carry)


def test_a_gaussian_run_resumes_exactly(tmp_path):
    """Replay and checkpoint hold what a Gaussian latent packs."""
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    [diff] = [diff for diff in DIFFS if "gaussian_rssm" in diff]
    recipe = gym_recipe([diff])
    tiny = {"env": "tiny_environments:Diary", "steps": 60, "image": 48, "prefill": 8}
    tiny |= {"train_ratio": 2.0, "log_every": 16, "video_every": 0, "save_every": 30}
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **tiny)
    whole = tiny_runs.run(recipe, cfg, tmp_path / "whole")
    tiny_runs.comparable(whole, 60)
    folder = tiny_runs.interrupted(recipe, cfg, tmp_path / "run", 21)
    tiny_runs.same_run(tiny_runs.run(recipe, cfg, folder, resume=True), whole)

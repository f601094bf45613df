"""Every diff of the page "Swap a block" applies to the recipes, and the changed agent learns."""

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_runs
import torch
from lstm_core import lstm_rssm
from recency import Recency
from torch import nn
from torch.utils import _pytree as pytree

import dreamerv3_gym
import worldblocks as wb
from changed_recipes import changed, diffs, gym_recipe, page_diffs
from worldblocks.replay import Batch

DYNAMICS = [*diffs("swap.md", "## Core"), *diffs("swap.md", "## Latent")]
HEADS = diffs("swap.md", "## Head")
AGENT = [*DYNAMICS, *HEADS]
[SELECTOR] = diffs("swap.md", "## Replay selector")
[ENVIRONMENT] = diffs("swap.md", "## Environment")
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
    assert len(AGENT) == 9
    assert page_diffs("swap.md") == [*AGENT, SELECTOR, ENVIRONMENT]
    assert all(len(diff.splitlines()) <= LINES for diff in page_diffs("swap.md"))


@pytest.mark.parametrize("diff", [*AGENT, SELECTOR], ids=range(len(AGENT) + 1))
def test_a_swap_applies_to_every_recipe(diff):
    for path in RECIPES:
        compile(changed(path.read_text(encoding="utf-8"), diff), path.name, "exec")


@pytest.mark.parametrize("diff", AGENT, ids=range(len(AGENT)))
def test_a_swapped_recipe_learns(diff):
    recipe = gym_recipe([diff])
    cfg = recipe.PRESETS["smoke"]
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    rows = batch(agent)
    swapped = agent.rssm if diff in DYNAMICS else nn.ModuleList([agent.actor, agent.value])
    before = {name: p.clone() for name, p in swapped.named_parameters()}
    for _ in range(3):
        post, metrics = recipe.update(agent, optimizer, rows, cfg)
        assert all(metric.isfinite() for metric in metrics.values())
    assert post.deter.shape == (BATCH, TIME, cfg.deter)
    same = [name for name, p in swapped.named_parameters() if torch.equal(p, before[name])]
    # Three free nats exceed the KL of a new agent: its prior gets no gradient.
    assert all("prior" in name for name in same)
    assert (same == []) == ("free_nats=3.0" not in diff)
    stored = pytree.tree_leaves(agent.rssm.unpack(agent.rssm.pack(post.carry)))
    assert all(map(torch.equal, stored, pytree.tree_leaves(post.carry)))
    obs = {key: value[:, 0] for key, value in rows.obs.items()}
    action, acting = recipe.act(agent, obs, agent.initial(BATCH), torch.ones(BATCH) > 0)
    assert action.shape == (BATCH, 5)
    assert type(acting.dynamics) is type(post.carry)


def test_an_optimiser_of_pytorch_takes_the_place_of_ours():
    recipe = gym_recipe(diffs("blocks/optim.md", "## dreamer_optimizer"))
    cfg = recipe.PRESETS["smoke"]
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    before = agent.reward.out.weight.clone()
    _, metrics = recipe.update(agent, optimizer, batch(agent), cfg)
    assert type(optimizer) is torch.optim.AdamW
    assert all(metric.isfinite() for metric in metrics.values())
    assert not torch.equal(agent.reward.out.weight, before)


@pytest.mark.parametrize("diff", AGENT, ids=range(len(AGENT)))
def test_a_swapped_update_reads_nothing_on_the_host(diff, monkeypatch):
    """On the meta device, whose tensors have no values, as in `test_update_captures.py`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    recipe = gym_recipe([diff])
    cfg = recipe.PRESETS["smoke"]
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    agent.to("meta")
    post, metrics = recipe.update(agent, optimizer, batch(agent).to("meta"), cfg)
    assert {x.device.type for x in pytree.tree_leaves([post, metrics])} == {"meta"}


TINY = {"env": "tiny_environments:Diary", "steps": 60, "image": 48, "prefill": 8}
TINY |= {"train_ratio": 2.0, "log_every": 16, "video_every": 0, "save_every": 30}
RESUMED = {
    "a latent of the library": "gaussian_rssm",
    "a core of one's own": "lstm_rssm",
    "a critic of one's own": "QuantileHead",
    "a policy of one's own": "BinnedActor",
    "a selector of one's own": "Recency",
}


@pytest.mark.parametrize("name", RESUMED.values(), ids=list(RESUMED))
def test_a_run_with_a_swap_resumes_exactly(name, tmp_path):
    """Replay and checkpoint hold what the swapped block has."""
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    [diff] = [diff for diff in [*AGENT, SELECTOR] if f"{name}(" in diff]
    recipe = gym_recipe([diff])
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **TINY)
    whole = tiny_runs.run(recipe, cfg, tmp_path / "whole")
    tiny_runs.comparable(whole, 60)
    folder = tiny_runs.interrupted(recipe, cfg, tmp_path / "run", 21)
    tiny_runs.same_run(tiny_runs.run(recipe, cfg, folder, resume=True), whole)


def test_the_core_of_the_page_keeps_every_promise():
    sizes = {"embed_dim": 7, "action_dim": 3}
    shape = {"deter": 12, "hidden": 8, "groups": 3, "classes": 4, "recompute": 0}
    make = functools.partial(lstm_rssm, **sizes, **shape)
    kind = {"prior": lambda rssm, state: rssm.prior(state), "latent": lambda state: state.stoch}
    assert wb.testing.check_dynamics(make, **sizes, **kind).skipped == {}


def test_the_selector_of_the_page_draws_newer_windows_more_often():
    """Frequencies against 2^(-k / halflife), for streams of nine and of two valid starts."""
    oldest, starts = np.array([5, 0]), np.array([9, 2])
    stored = SimpleNamespace(oldest=oldest, starts=lambda window: starts)
    drawn = Recency(halflife=2, seed=0).draw(200_000, 3, stored)
    for stream, count in enumerate(starts):
        own = drawn.start[drawn.stream == stream] - oldest[stream]
        weight = 2.0 ** (-np.arange(count)[::-1] / 2)
        total = sum((2.0 ** (-np.arange(n) / 2)).sum() for n in starts)
        np.testing.assert_allclose(np.bincount(own) / 200_000, weight / total, atol=0.005)


def test_a_replay_with_the_selector_of_the_page_keeps_its_other_promises():
    def make(*, seed, **sizes):
        selector = Recency(halflife=3, seed=seed)
        return wb.replay.SequenceReplay(seed=seed, selector=selector, **sizes)

    wb.testing.check_replay(make, skip=["draws-are-even", "queue-gives-each-once"])


def test_an_environment_by_the_name_of_its_suite(tmp_path):
    """The same run as by its id; options of a suite are those of its function."""
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    recipe = gym_recipe([ENVIRONMENT])
    tiny = TINY | {"env": "CartPole-v1"}
    cfg = dataclasses.replace(dreamerv3_gym.PRESETS["smoke"], **tiny)
    by_id = tiny_runs.run(dreamerv3_gym, cfg, tmp_path / "id")
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **tiny | {"env": "gym:CartPole-v1"})
    tiny_runs.same_run(tiny_runs.run(recipe, cfg, tmp_path / "name"), by_id)
    options = {"env": "worldblocks.testing:Catch", "env_args": json.dumps({"side": 56})}
    envs = recipe.environments(dataclasses.replace(cfg, **options), 2, seed=0)
    assert envs.observation == {"image": wb.spaces.Image(56, 56, 1)}
    with pytest.raises(ValueError, match="--env-args cannot set trusted"):
        dataclasses.replace(cfg, env_args=json.dumps({"trusted": False}))

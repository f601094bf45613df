"""The whole update is one CUDA graph: nothing in it reads a tensor's value on the host.

Shown without a GPU on the meta device, whose tensors have a shape and no values: whatever would
copy to the host, branch on a value or take its shape from one is an error there.
"""

import contextlib
import dataclasses
import functools

import pytest
import torch

import dreamerv3_atari
import dreamerv3_dmc
import dreamerv3_gym
import worldblocks as wb
from kernel_recorder import KernelRecorder
from worldblocks.replay import Batch

RECIPES = [dreamerv3_atari, dreamerv3_dmc, dreamerv3_gym]
OBSERVED = {"view": wb.spaces.Image(48, 48, 3), "speed": wb.spaces.Continuous((2,))}
ACTIONS = {"act": wb.spaces.Discrete(3), "push": wb.spaces.Continuous((2,))}
BATCH, TIME = 2, 6


def built(recipe, **options):
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **options)
    agent, optimizer = recipe.build(cfg, OBSERVED, ACTIONS)
    return agent, optimizer, cfg


def batch(agent):
    flag = torch.zeros(BATCH, TIME, dtype=torch.bool)
    obs = {"view": torch.zeros(BATCH, TIME, 48, 48, 3, dtype=torch.uint8)}
    obs["speed"] = torch.zeros(BATCH, TIME, 2)
    action, reward = torch.zeros(BATCH, TIME, 5), torch.zeros(BATCH, TIME)
    return Batch(obs, action, reward, flag, flag, flag, agent.rssm.initial(BATCH), None)


@pytest.fixture
def check_update(monkeypatch):
    # Autocast knows no meta device; in float32 there is nothing for it to do.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())

    def check(recipe, **options):
        agent, optimizer, cfg = built(recipe, **options)
        agent.to("meta")
        post, metrics = recipe.update(agent, optimizer, batch(agent).to("meta"), cfg)
        assert post.deter.shape == (BATCH, TIME, 32)
        assert {x.device.type for x in [*post, *metrics.values()]} == {"meta"}
        assert {metric.ndim for metric in metrics.values()} == {0}
        return agent

    return check


VARIANTS = {
    "dreamer": {},
    "deep core": {"core_layers": 2},
    "deep networks": {"prior_layers": 1, "posterior_layers": 2},
    "posterior of the embedding alone": {"absolute": True},
    "recomputed": {"recompute": 4},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_core_and_latent_keeps_the_fast_path(options, monkeypatch, check_update):
    make = wb.rssm.dreamer_rssm

    def variant(**sizes):
        return make(**{**sizes, **options})

    monkeypatch.setattr(wb.rssm, "dreamer_rssm", variant)
    check_update(dreamerv3_gym)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_every_recipe_does(recipe, gradient, check_update):
    check_update(recipe, actor_grad=gradient)


def test_imagination_from_the_last_rows_does(check_update):
    check_update(dreamerv3_atari, imag_last=2)


@pytest.mark.parametrize("options", [{}, {"actor_grad": "mix", "recompute": 4}], ids=str)
def test_a_graph_of_it_goes_on_as_the_eager_update(options):
    """To the bit: draws, warm-up of the learning rate, slow critic and running scale included."""
    ends = []
    for record in (None, KernelRecorder()):
        torch.manual_seed(5)
        agent, optimizer, cfg = built(dreamerv3_gym, warmup=5, lr=1e-2, **options)
        update = functools.partial(dreamerv3_gym.update, agent, optimizer, cfg=cfg)
        train, given = wb.run.Captured(update, warmup=2, record=record), batch(agent)
        for value in range(5):
            post, metrics = train(given._replace(reward=given.reward + value))
        ends.append([*post, *metrics.values(), *agent.state_dict().values()])
    assert all(torch.equal(ours.detach(), theirs) for ours, theirs in zip(*ends, strict=True))


def test_the_meta_device_catches_a_value_that_is_read(monkeypatch, check_update):
    """The tests above can fail: a scale that is a number on the host is no graph."""
    read = wb.normalize.PercentileScale.forward
    monkeypatch.setattr(
        wb.normalize.PercentileScale, "forward", lambda self, x: max(1.0, read(self, x).item())
    )
    with pytest.raises(RuntimeError, match="meta"):
        check_update(dreamerv3_atari)


@pytest.mark.parametrize("options", [{"imag_last": TIME}, {"recompute": 4}], ids=str)
def test_the_knobs_of_memory_change_nothing_else(options):
    """Imagination from the last TIME of TIME rows is from all; what is computed twice is equal."""
    found = []
    for more in ({}, options):
        torch.manual_seed(5)
        agent, optimizer, cfg = built(dreamerv3_atari, warmup=0, lr=1e-2, **more)
        train = wb.run.Captured(
            functools.partial(dreamerv3_atari.update, agent, optimizer, cfg=cfg)
        )
        for _ in range(2):
            _, metrics = train(batch(agent))
        found.append(torch.stack([metrics[name] for name in sorted(metrics)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_fewer_starts_imagine_fewer_rows(monkeypatch):
    starts = []
    imagine = wb.rssm.imagine
    monkeypatch.setattr(
        wb.rssm, "imagine", lambda *args: starts.append(len(args[1].deter)) or imagine(*args)
    )
    for rows in (0, 2):
        agent, optimizer, cfg = built(dreamerv3_atari, imag_last=rows)
        dreamerv3_atari.update(agent, optimizer, batch(agent), cfg)
    assert starts == [BATCH * TIME, BATCH * 2]

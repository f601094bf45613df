"""The whole update can be one CUDA graph: nothing in it reads a tensor's value on the host.

Tested without a GPU on the meta device, whose tensors have shapes but no values: copying to the
host, branching on a value or taking a shape from one is an error there.
"""

import contextlib
import dataclasses
import functools

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import dreamerv3_atari
import dreamerv3_dmc
import dreamerv3_gym
import worldblocks as wb
from kernel_recorder import KernelRecorder
from ring_core import RingCore, ScanningCore, ring_rssm
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
    # Autocast does not support the meta device, and does nothing in float32.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())

    def check(recipe, **options):
        agent, optimizer, cfg = built(recipe, **options)
        agent.to("meta")
        post, metrics = recipe.update(agent, optimizer, batch(agent).to("meta"), cfg)
        assert post.deter.shape == (BATCH, TIME, 32)
        assert {x.device.type for x in pytree.tree_leaves([post, metrics])} == {"meta"}
        assert {metric.ndim for metric in metrics.values()} == {0}
        return agent

    return check


def dreamer(sizes, **options):
    return DREAMER(**sizes, **options)


def gru(sizes, **options):
    return wb.rssm.gru_rssm(**without(sizes, "blocks"), **options)


def gaussian(sizes, **options):
    sizes = without(sizes, "blocks", "unimix", "groups", "classes")
    return wb.rssm.gaussian_rssm(stoch=7, **sizes, **options)


def block_gaussian(sizes):
    shared = {name: sizes[name] for name in ("deter", "hidden")}
    core = {"action_dim": sizes["action_dim"], "blocks": sizes["blocks"]}
    latent = wb.rssm.GaussianLatent(size=7, embed_dim=sizes["embed_dim"], **shared)
    return wb.rssm.RSSM(wb.rssm.BlockGRU(stoch=7, **core, **shared), latent)


def without(sizes, *names):
    return {name: size for name, size in sizes.items() if name not in names}


DREAMER = wb.rssm.dreamer_rssm
VARIANTS = {
    "dreamer": dreamer,
    "deep core": functools.partial(dreamer, core_layers=2),
    "deep networks": functools.partial(dreamer, prior_layers=1, posterior_layers=2),
    "decoupled": functools.partial(dreamer, absolute=True),
    "gru": gru,
    "gru with LayerNorm": lambda sizes: gru(sizes, norm=nn.LayerNorm(3 * sizes["deter"])),
    "gru decoupled": functools.partial(gru, absolute=True),
    "gaussian": gaussian,
    "gaussian decoupled": functools.partial(gaussian, absolute=True),
    "block gaussian": block_gaussian,
}


@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_every_core_and_latent_is_capturable(make, monkeypatch, check_update):
    monkeypatch.setattr(wb.rssm, "dreamer_rssm", lambda **sizes: make(sizes))
    check_update(dreamerv3_gym)


@pytest.mark.parametrize("name", ["dreamer", "gru", "gaussian decoupled", "block gaussian"])
def test_recomputation_is_capturable_with_every_core_and_latent(name, monkeypatch, check_update):
    monkeypatch.setattr(wb.rssm, "dreamer_rssm", lambda **sizes: VARIANTS[name](sizes))
    check_update(dreamerv3_gym, recompute=4)


@pytest.mark.parametrize("core", [RingCore, ScanningCore])
@pytest.mark.parametrize("options", [{}, {"actor_grad": "mix", "recompute": 4}], ids=str)
def test_a_core_that_remembers_more_than_its_state_is_capturable(
    core, options, monkeypatch, check_update
):
    monkeypatch.setattr(wb.rssm, "dreamer_rssm", functools.partial(ring_rssm, core))
    check_update(dreamerv3_gym, **options)


def test_every_core_and_latent_is_tested():
    sizes = {"deter": 8, "hidden": 3, "blocks": 2, "groups": 5, "classes": 4, "unimix": 0.01}
    sizes |= {"embed_dim": 7, "action_dim": 6}
    made = [make(sizes) for make in VARIANTS.values()]
    built = {type(part) for rssm in made for part in (rssm.core, rssm.latent)}
    public = [getattr(wb.rssm, name) for name in wb.rssm.__all__]
    kinds = [x for x in public if isinstance(x, type) and issubclass(x, nn.Module)]
    assert {x for x in kinds if hasattr(x, "step") or hasattr(x, "distribution")} == built


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_every_recipe_is_capturable(recipe, gradient, check_update):
    check_update(recipe, actor_grad=gradient)


def test_imagination_from_the_last_rows_is_capturable(check_update):
    check_update(dreamerv3_atari, imag_last=2)


@pytest.mark.parametrize("options", [{}, {"actor_grad": "mix", "recompute": 4}], ids=str)
def test_a_captured_update_equals_the_eager_one(options):
    """To the bit, including random draws, learning-rate warm-up, slow critic and return scale."""
    ends = []
    for record in (None, KernelRecorder()):
        torch.manual_seed(5)
        agent, optimizer, cfg = built(dreamerv3_gym, warmup=5, lr=1e-2, **options)
        update = functools.partial(dreamerv3_gym.update, agent, optimizer, cfg=cfg)
        train, given = wb.run.Captured(update, warmup=2, record=record), batch(agent)
        for value in range(5):
            post, metrics = train(given._replace(reward=given.reward + value))
        ends.append(pytree.tree_leaves([post, metrics, dict(agent.state_dict())]))
    assert all(torch.equal(ours.detach(), theirs) for ours, theirs in zip(*ends, strict=True))


def test_the_meta_device_catches_a_value_that_is_read(monkeypatch, check_update):
    """So the tests above can fail: a scale read on the host cannot be captured."""
    read = wb.normalize.PercentileScale.forward
    monkeypatch.setattr(
        wb.normalize.PercentileScale, "forward", lambda self, x: max(1.0, read(self, x).item())
    )
    with pytest.raises(RuntimeError, match="meta"):
        check_update(dreamerv3_atari)


@pytest.mark.parametrize("options", [{"imag_last": TIME}, {"recompute": 4}], ids=str)
def test_options_that_save_memory_change_no_result(options):
    """The last TIME of TIME rows are all of them; recomputed activations are equal."""
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

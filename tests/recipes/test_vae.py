"""The autoencoder recipe, and its encoder in front of the world model of another recipe."""

import dataclasses
import re

import pytest
import tiny_runs
import torch
from tiny_runs import same

import vae as recipe
import worldblocks as wb
from changed_recipes import diffs, gym_recipe

pytest.importorskip("gymnasium", reason="needs the extra gym")

TINY = dataclasses.replace(
    recipe.PRESETS["smoke"], steps=6, frames=24, held_out=4, log_every=2, save_every=3
)


def run(folder, **changes):
    return tiny_runs.run(recipe, TINY, folder, **changes)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    return folder, tiny_runs.smoke("vae", folder)


def test_smoke_prints_the_loss_and_leaves_a_picture(smoke):
    folder, output = smoke
    lines = wb.run.read_jsonl(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert re.search(r"'held_out/reconstruction': [\d.]+", output)
    assert lines[-1]["loss/reconstruction"] < 0.5 * lines[0]["loss/reconstruction"]
    image = pytest.importorskip("PIL.Image").open(folder / "frames.png")
    assert image.size == (2 * 10 * 48, 2 * (2 * 48 + 2))
    originals = image.crop((0, 0, 960, 96))
    assert originals.getextrema() == ((0, 255), (0, 255), (0, 255)), "the ball is white"


def test_load(smoke):
    model, cfg = recipe.load(smoke[0], device="cpu")
    frames = torch.zeros(5, 48, 48, 1, dtype=torch.uint8)
    assert model.encoder(frames).shape == (5, cfg.latent)
    assert not model.training


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    whole = run(tmp_path / "whole")
    part = run(tmp_path / "part", steps=3)
    run(part, resume=True)
    assert (part / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for name in ("encoder", "decoder"):
        same(*(wb.run.Checkpoint(folder).weights(name) for folder in (part, whole)), name)


def test_rgb_frames_of_a_rendered_environment(tmp_path):
    pytest.importorskip("pygame", reason="CartPole is drawn with pygame")
    tiny = dataclasses.replace(recipe.Config(), **{k: getattr(TINY, k) for k in ("envs", "frames")})
    envs = recipe.environments(tiny, 2, 0)
    frames = recipe.collect(dataclasses.replace(tiny, held_out=4), envs)
    envs.close()
    assert (frames.shape, frames.dtype) == ((28, 64, 64, 3), torch.uint8)
    assert frames.float().std() > 0


def test_absolute_errors(tmp_path):
    folder = run(tmp_path / "run", reconstruction="l1", latent=5)
    model, _ = recipe.load(folder, device="cpu")
    assert model.decoder.output is wb.distributions.SigmoidImageL1


# ----------------------------------------------------------- diffs of the pages, in other recipes


def played(module, folder, **changes):
    """The agent and the last metrics of a short run on images of Catch."""
    cfg = dataclasses.replace(
        module.PRESETS["smoke"], env="worldblocks.testing:Catch", image=48, steps=92, prefill=8
    )
    cfg = dataclasses.replace(cfg, train_ratio=2.0, log_every=16, video_every=0, **changes)
    tiny_runs.run(module, cfg, folder)
    [*_, last] = wb.run.read_jsonl(folder / "metrics.jsonl")
    assert last["updates"] >= 4
    agent, _ = module.build(cfg, wb.testing.Catch().observation, wb.testing.Catch().action)
    wb.run.load_module_state(agent, wb.run.Checkpoint(folder).weights("agent"))
    return agent, last


def test_a_frozen_encoder_in_front_of_a_world_model(smoke, tmp_path):
    frozen, *_ = diffs("blocks/encoders.md", "### In front of a world model")
    places = [
        ('"logs/vae"', repr(str(smoke[0]))),
        ('"latent": 32, "depth": 4', '"latent": 8, "depth": 2'),
    ]
    agent, _ = played(gym_recipe([frozen], places), tmp_path / "run")
    assert agent.encoder.embed_dim == 8
    ours, trained = agent.encoder.image.state_dict(), wb.run.Checkpoint(smoke[0]).weights("encoder")
    same(*(dict(sorted(x.items())) for x in (ours, trained)), "the encoder is as it was")


def test_an_encoder_that_is_trained_with_the_world_model(tmp_path):
    _, *both = diffs("blocks/encoders.md", "### In front of a world model")
    agent, last = played(gym_recipe(both), tmp_path / "run")
    assert agent.encoder.embed_dim == 32
    assert last["loss/vae"] > 0


def test_trained_weights_and_a_trained_symlog_in_the_gymnasium_recipe(tmp_path):
    changes = [
        *diffs("blocks/balance.md", "## HarmonyWeights"),
        *diffs("blocks/heads.md", "## SymlogHead"),
    ]
    agent, last = played(gym_recipe(changes), tmp_path / "run", lr=1e-2, warmup=0)
    assert {name for name in last if name.startswith("weight/")} == {
        f"weight/{name}" for name in ("dyn", "rep", "obs", "reward")
    }
    assert last["weight/obs"] < 1, "a large loss"
    assert agent.reward.transform.log_scale != 0

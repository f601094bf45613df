"""Whole runs of `dreamerv3_gym.py smoke` on pictures of many sizes, with `--image` unset."""

import contextlib
import dataclasses
import json
import types

import pytest
import tiny_runs
import torch

import dreamerv3_gym as recipe
import evaluate
import vae
import worldblocks as wb

pytest.importorskip("gymnasium", reason="needs the extra gym")

SMOKE = dataclasses.replace(
    recipe.PRESETS["smoke"],
    env="tiny_environments:Cameras",
    steps=48,
    prefill=8,
    log_every=46,
    log=(),
)
CASES = {
    "odd sides": {"shapes": [37, 51, 3]},
    "two cameras": {"shapes": {"front": [96, 64, 3], "wrist": [32, 32, 3]}},
    "a board in front of a camera": {
        "shapes": {"board": [5, 9, 1], "eye": [12, 20, 1]},
        "grids": {"board": 256},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_run(case, tmp_path):
    """It trains, saves a video, is loaded, decodes the shapes that it observed, and is played."""
    cfg = dataclasses.replace(SMOKE, env_args=json.dumps(CASES[case]), video_every=46)
    folder = tiny_runs.run(recipe, cfg, tmp_path / "run")
    losses = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1]["updates"] > 0
    assert list(folder.rglob("*.gif"))
    agent, _ = recipe.load(folder, "cpu")
    envs = recipe.environments(cfg, 2, 0)
    obs = envs.reset().obs
    shapes = CASES[case]["shapes"]
    shapes = shapes if isinstance(shapes, dict) else {"image": shapes}
    assert {key: list(space.shape) for key, space in envs.observation.items()} == shapes
    carry = agent.initial(2)
    embed, first = agent.encoder(obs), torch.ones(2, dtype=torch.bool)
    state = agent.rssm.observe_step(carry.dynamics, embed, carry.prev_action, first)
    decoded = agent.decoder(state)
    for key, shape in shapes.items():
        assert list(decoded.mean[key].shape[1:4]) == shape
    assert decoded.nll(obs).isfinite().all()
    if len(shapes) > 1 or "grids" in CASES[case]:
        evaluate.main(evaluate.Config(run=folder, episodes=1, envs=1, video=3))
        assert (folder / "evaluation.gif").stat().st_size > 0


@pytest.mark.parametrize("side", [128, 129])
def test_a_side_beyond_128_prints_a_line(side, tmp_path, capsys):
    envs = types.SimpleNamespace(observation={"image": wb.spaces.Image(side, 64, 3)})
    cfg = dataclasses.replace(SMOKE, logdir=str(tmp_path / "run"))
    with contextlib.suppress(StopIteration), wb.run.Run(cfg, recipe.__file__, {"envs": envs}):
        raise StopIteration
    line = f"images of {side}×64: convolutions and replay cost about 2 times those of one of 64×64"
    assert (line in capsys.readouterr().out) == (side > 128)


def test_a_picture_that_is_too_large_or_small():
    for shape in ([600, 40, 3], [7, 7, 3]):
        cfg = dataclasses.replace(SMOKE, env_args=json.dumps({"shapes": shape}))
        envs = recipe.environments(cfg, 1, 0)
        message = rf"{shape[0]}×{shape[1]} pixels; its sides may have 8 to 512: .*--image 64"
        with pytest.raises(ValueError, match=message):
            recipe.build(cfg, envs.observation, envs.action)
        envs = recipe.environments(dataclasses.replace(cfg, image=20), 1, 0)
        assert envs.observation == {"image": wb.spaces.Image(20, 20, 3)}


def test_rendered_frames_and_presets_keep_their_sizes():
    cfg = dataclasses.replace(SMOKE, env="CartPole-v1", pixels=True)
    assert recipe.environments(cfg, 1, 0).observation == {"image": wb.spaces.Image(64, 64, 3)}
    assert [recipe.PRESETS[name].image for name in ("image", "cpu_image")] == [64, 48]


def test_an_autoencoder_is_for_one_size():
    spaces = {"a": wb.spaces.Image(20, 30, 1), "b": wb.spaces.Image(20, 30, 3)}
    model, _ = vae.build(vae.PRESETS["smoke"], spaces)
    assert model.encoder.posterior(torch.zeros(2, 20, 30, 4).byte()).mean.shape[0] == 2
    spaces["c"] = wb.spaces.Image(9, 9, 1)
    with pytest.raises(ValueError, match=r"images of one size, got .*; --image 64 resizes"):
        vae.build(vae.PRESETS["smoke"], spaces)

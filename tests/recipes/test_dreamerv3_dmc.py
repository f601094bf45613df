"""The DeepMind Control recipe: smoke from vectors and from images, exact resume, evaluation."""

import dataclasses
import json

import pytest
import tiny_runs
from tiny_runs import comparable, interrupted, same_run

import dreamerv3_dmc as recipe
import evaluate
import worldblocks as wb

pytest.importorskip("dm_control", reason="needs the extra dmc")

# An episode is 25 actions.
TINY = dataclasses.replace(
    recipe.PRESETS["smoke"],
    task="cartpole_swingup",
    steps=64,
    repeat=40,
    prefill=8,
    train_ratio=2.0,
    log_every=16,
    video_every=0,
    save_every=30,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return tiny_runs.run(recipe, TINY, tmp_path_factory.mktemp("runs") / "whole")


def check_files(folder):
    """Check the files that any run leaves."""
    for path in ("config.json", "metrics.jsonl", "timing.jsonl", "curve.png"):
        assert (folder / path).stat().st_size > 0
    assert wb.run.Checkpoint(folder).exists()


def test_smoke_from_vectors_does_not_render(tmp_path):
    tiny_runs.smoke("dreamerv3_dmc", tmp_path, MUJOCO_GL="disabled")
    check_files(tmp_path)
    assert list(tmp_path.glob("videos/*")) == []


def test_smoke_from_images_leaves_a_video(tmp_path, monkeypatch):
    """Shorter than the preset: rendering without a graphics card is slow."""
    options = "--steps 64 --prefill 16 --video-every 64 --image 48"
    command = f"recipe.py smoke --pixels {options} --logdir {tmp_path}"
    monkeypatch.setattr("sys.argv", command.split())
    try:
        assert wb.run.launch(recipe.main, recipe.PRESETS, recipe.__doc__, name="task") == 0
    except RuntimeError as error:
        if "has neither EGL nor OSMesa" not in str(error):
            raise
        pytest.skip(str(error))
    check_files(tmp_path)
    assert list(tmp_path.glob("videos/*.gif"))


def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, capsys):
    """Interrupted in mid-episode, which is replayed."""
    comparable(whole, TINY.steps)
    folder = interrupted(recipe, TINY, tmp_path / "run", 19)
    assert "saved at step 38; continue with:\n  python" in capsys.readouterr().out
    assert [len(log) for log in tiny_runs.state(folder)["envs"]["actions"]] == [19, 19]
    same_run(tiny_runs.run(recipe, TINY, folder, resume=True), whole)


def test_evaluate_plays_a_task(whole, capsys):
    evaluate.main(evaluate.Config(run=whole, episodes=2, envs=2, json=True))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["episodes"] == 2
    assert 0 <= figures["mean"] <= 1000

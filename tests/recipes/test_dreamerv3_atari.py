"""The Atari recipe on the real Arcade Learning Environment: smoke, exact resume, evaluation."""

import dataclasses
import json
import signal
import subprocess

import pytest
import tiny_runs
from tiny_runs import HERE, interrupted, same_run

import dreamerv3_atari as recipe
import evaluate
import worldblocks as wb

# A random episode of Breakout ends after about 40 steps.
TINY = dataclasses.replace(
    recipe.PRESETS["smoke"],
    game="breakout",
    steps=240,
    repeat=16,
    prefill=48,
    train_ratio=2.0,
    log_every=16,
    video_every=0,
    save_every=50,
)


def run(folder, **changes):
    return tiny_runs.run(recipe, TINY, folder, **changes)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder left by a run whose process was killed with SIGKILL at a given moment."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(TINY)))
    command = tiny_runs.command(HERE / "killed_run.py", folder / "config.json")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(**command, **pipes, stderr=errors) as p,
    ):

        def run_until(moment):
            left = folder / moment.replace(":", "-")
            print(moment, left, file=p.stdin, flush=True)
            assert p.stdout.readline() == f"{signal.SIGKILL:d}\n", (folder / "errors").read_text()
            return left

        yield run_until


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return run(tmp_path_factory.mktemp("runs") / "whole")


def test_the_run_is_worth_comparing(whole):
    """Otherwise the tests below show nothing."""
    tiny_runs.comparable(whole, TINY.steps)


MOMENTS = ["step:93", "save:3:3"]  # every moment of a save: tests/run/test_checkpoint_kill.py
MOMENTS += [pytest.param(moment, marks=pytest.mark.slow) for moment in ("save:2:0", "save:2:9")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_equals_uninterrupted(whole, killed, moment):
    folder = killed(moment)
    assert wb.run.Checkpoint(folder).exists()
    same_run(run(folder, resume=True), whole)


def test_killed_before_the_first_save_starts_again(whole, killed):
    folder = killed("step:20")
    assert not wb.run.Checkpoint(folder).exists()
    same_run(run(folder, resume=True), whole)


def test_a_signal_saves_and_tells_how_to_resume(whole, tmp_path, capsys):
    folder = interrupted(recipe, TINY, tmp_path / "run", 77)
    assert "saved at step 154; continue with:" in capsys.readouterr().out
    same_run(run(folder, resume=True), whole)


def test_smoke_leaves_video_curve_and_checkpoint(tmp_path):
    tiny_runs.smoke("dreamerv3_atari", tmp_path / "run")
    for path in ("config.json", "metrics.jsonl", "timing.jsonl", "curve.png"):
        assert (tmp_path / "run" / path).stat().st_size > 0
    assert list((tmp_path / "run" / "videos").glob("*.gif"))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert wb.run.Checkpoint(tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused(whole, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recipe.py", "smoke", "--logdir", str(whole)])
    with pytest.raises(SystemExit, match="holds a run already; add --resume"):
        wb.run.launch(recipe.main, recipe.PRESETS, recipe.__doc__, name="game")


def test_evaluate_plays_a_run(whole, capsys):
    evaluate.main(evaluate.Config(run=whole, episodes=3, envs=2, json=True, video=20))
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["episodes"] == 3
    assert last["low"] <= last["mean"] <= last["high"]
    assert (whole / "evaluation.gif").stat().st_size > 0


def test_evaluate_names_an_unknown_recipe(whole, tmp_path):
    config = json.loads((whole / "config.json").read_text()) | {"recipe": "elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileNotFoundError, match="made by the recipe 'elsewhere', which is not in"):
        evaluate.main(evaluate.Config(run=tmp_path))


def test_another_model_size_is_refused(whole, tmp_path):
    (tmp_path / "checkpoint").symlink_to(whole / "checkpoint")
    config = json.loads((whole / "config.json").read_text()) | {"units": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="a checkpoint of another model size"):
        recipe.load(tmp_path)


def test_resume_with_another_configuration_names_the_fields(whole):
    with pytest.raises(ValueError, match=r"units is 16 there, 32 here"):
        run(whole, resume=True, units=32)

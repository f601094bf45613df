"""The Atari recipe on the real Arcade Learning Environment: smoke, exact resume, evaluation."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dreamerv3_atari as recipe
import evaluate
import worldblocks as wb

ROOT = Path(__file__).parents[2]

# Breakout: a random episode is over after some 40 steps of each environment.
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


def python(*args: object) -> subprocess.CompletedProcess:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "recipes")}
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, env=env, cwd=ROOT
    )


def run(folder: Path, code: int = 0, **changes: object) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wb.run, "plot_curve", lambda _: None)  # a second for each picture
        assert recipe.main(dataclasses.replace(TINY, logdir=str(folder), **changes)) == code
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    torch.set_num_threads(1)
    return run(tmp_path_factory.mktemp("runs") / "whole")


def same_run(ours: Path, theirs: Path) -> None:
    """Bitwise: every line of metrics and episodes, every tensor and number of the last state."""
    for name in ("metrics.jsonl", "episodes.jsonl"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    first, second = (wb.run.Checkpoint(path).load() for path in (ours, theirs))
    for state in (first, second):
        del state["logger"]["offsets"]["timing"]  # the length of a file of wall-clock figures
    same(first, second, "state")


def same(a, b, path: str) -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def test_the_run_is_worth_comparing(whole):
    """It has finished episodes, updates, several saves; else the tests below show nothing."""
    state = wb.run.Checkpoint(whole).load()
    [step], [updates], [episodes] = (
        state["position"][name] for name in ("step", "updates", "episodes")
    )
    assert step == TINY.steps
    assert updates > 10
    assert episodes >= 2
    assert not state["envs"]["rows"]["is_first"].any()  # it stopped in mid-episode


@pytest.mark.parametrize("moment", ["step:93", "save:2:0", "save:3:3", "save:2:9"])
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path, moment):
    config = dataclasses.asdict(dataclasses.replace(TINY, logdir=str(tmp_path / "run")))
    (tmp_path / "config.json").write_text(json.dumps(config))
    killed = python(Path(__file__).parent / "killed_run.py", tmp_path / "config.json", moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert wb.run.Checkpoint(tmp_path / "run").exists()
    same_run(run(tmp_path / "run", resume=True), whole)


def test_killed_before_the_first_save_starts_again(whole, tmp_path):
    config = dataclasses.asdict(dataclasses.replace(TINY, logdir=str(tmp_path / "run")))
    (tmp_path / "config.json").write_text(json.dumps(config))
    killed = python(Path(__file__).parent / "killed_run.py", tmp_path / "config.json", "step:20")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    same_run(run(tmp_path / "run", resume=True), whole)


def test_signal_saves_and_says_how_to_resume(whole, tmp_path, monkeypatch, capsys):
    step = wb.envs.EnvVector.step
    calls = []

    def interrupting(self, action):
        calls.append(1)
        if len(calls) == 77:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(wb.envs.EnvVector, "step", interrupting)
        run(tmp_path / "run", code=128 + signal.SIGTERM)
    assert "saved at step 154; continue with:" in capsys.readouterr().out
    same_run(run(tmp_path / "run", resume=True), whole)


def test_smoke_leaves_video_curve_and_checkpoint(tmp_path):
    """As the documentation says it, in a process of its own."""
    done = python("recipes/dreamerv3_atari.py", "smoke", "--logdir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for path in ("config.json", "metrics.jsonl", "timing.jsonl", "curve.png"):
        assert (tmp_path / "run" / path).stat().st_size > 0
    assert list((tmp_path / "run" / "videos").glob("*.gif"))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert wb.run.Checkpoint(tmp_path / "run").exists()
    again = python("recipes/dreamerv3_atari.py", "smoke", "--logdir", tmp_path / "run")
    assert again.returncode != 0
    assert "holds a run already; add --resume" in again.stderr


def test_evaluate_plays_a_run(whole, capsys):
    evaluate.main(evaluate.Config(run=whole, episodes=3, envs=2, json=True, video=20))
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["episodes"] == 3
    assert last["low"] <= last["mean"] <= last["high"]
    assert (whole / "evaluation.gif").stat().st_size > 0


def test_evaluate_names_an_unknown_recipe(whole, tmp_path):
    config = json.loads((whole / "config.json").read_text()) | {"recipe": "elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match="made by the recipe 'elsewhere', which is not beside"):
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

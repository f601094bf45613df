import json
import math
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.envs import Episode, Failure
from worldblocks.run import (
    JsonlSink,
    Logger,
    TensorBoardSink,
    WandbSink,
    read_jsonl,
    run_folder,
)
from worldblocks.run.config import FORMAT


class Recorder:
    """A sink that records its calls."""

    def __init__(self):
        self.calls = []

    def write(self, step, metrics):
        self.calls.append(("write", step, dict(metrics)))

    def video(self, step, name, path):
        self.calls.append(("video", step, name, Path(path).name))

    def resume(self, step):
        self.calls.append(("resume", step))

    def close(self):
        self.calls.append(("close",))


def lines(folder, name="metrics"):
    return (folder / f"{name}.jsonl").read_text().splitlines()


def test_means_between_writes_by_hand(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    logger.add({"loss": torch.tensor(1.0), "rate": 4})
    logger.add({"loss": torch.tensor(2.0)})
    assert logger.write(64, {"updates": 2}) == {"loss": 1.5, "rate": 4.0, "updates": 2.0}
    logger.add({"loss": torch.tensor(7.0, dtype=torch.bfloat16)})
    logger.write(128)
    logger.write(192)
    assert lines(tmp_path) == [
        '{"step": 64, "loss": 1.5, "rate": 4.0, "updates": 2.0}',
        '{"step": 128, "loss": 7.0}',
        '{"step": 192}',
    ]
    logger.close()


def test_a_name_may_come_as_a_number_and_as_a_tensor(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    logger.add({"loss": 1.0})
    logger.add({"loss": torch.tensor(2)})
    logger.add({"loss": torch.tensor(True)})
    assert logger.write(1) == {"loss": pytest.approx(4 / 3)}
    logger.close()


def test_adding_does_not_keep_the_graph_or_the_tensor(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    value = torch.tensor(3.0, requires_grad=True)
    static = value * 1
    logger.add({"loss": static})
    static.data.fill_(100.0)  # what a replayed CUDA graph does with its outputs
    assert logger.write(1) == {"loss": 3.0}
    logger.close()


def test_numbers_that_json_cannot_hold_are_null(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    logger.add({"a": math.nan, "b": torch.tensor(math.inf), "c": 1.0})
    assert math.isnan(logger.write(5)["a"])
    assert lines(tmp_path) == ['{"step": 5, "a": null, "b": null, "c": 1.0}']
    logger.close()


def test_wall_clock_and_episodes_have_their_own_files(tmp_path):
    recorder = Recorder()
    logger = Logger(tmp_path, sinks=[recorder])
    logger.timing(8, {"updates_per_second": 3.5})
    logger.episode(9, score=-2.0, length=7)
    assert lines(tmp_path, "timing") == ['{"step": 8, "updates_per_second": 3.5}']
    assert lines(tmp_path, "episodes") == ['{"step": 9, "length": 7, "score": -2.0}']
    assert not (tmp_path / "metrics.jsonl").exists()
    assert recorder.calls == [
        ("write", 8, {"updates_per_second": 3.5}),
        ("write", 9, {"episode/score": -2.0, "episode/length": 7}),
    ]
    logger.close()


def test_failures_of_workers_are_kept_with_their_traceback(tmp_path):
    recorder = Recorder()
    logger = Logger(tmp_path, sinks=[recorder])
    logger.played(8, [])
    assert not (tmp_path / "failures.jsonl").exists()
    failure = Failure(env=1, step=2, what="raised ValueError: a joint broke", traceback="in step")
    logger.played(16, [Episode(0, 3.0, 7)], [failure])
    logger.close()
    line = {"step": 16, "env": 1, "what": failure.what, "traceback": "in step"}
    assert [json.loads(one) for one in lines(tmp_path, "failures")] == [line]
    assert lines(tmp_path, "episodes") == ['{"step": 16, "length": 7, "score": 3.0}']
    assert [call[0] for call in recorder.calls] == ["write", "close"]  # sinks get numbers only


def test_a_video_is_a_file_that_the_sinks_are_told_of(tmp_path):
    recorder = Recorder()
    logger = Logger(tmp_path, sinks=[recorder])
    path = logger.video(300, "open_loop/image", torch.zeros(2, 3, 5, 3, dtype=torch.uint8))
    logger.close()
    assert path == tmp_path / "videos" / "open_loop-image-000000300.gif"
    assert path.read_bytes().startswith(b"GIF89a")
    assert recorder.calls == [("video", 300, "open_loop/image", path.name), ("close",)]


def test_a_sink_needs_two_methods(tmp_path):
    class Printer:
        def __init__(self):
            self.lines = []

        def write(self, step, metrics):
            self.lines.append((step, dict(metrics)))

        def close(self):
            self.lines.append("closed")

    sink = Printer()
    logger = Logger(tmp_path, resume_at=0, sinks=[sink])
    logger.write(1, {"a": 2.0})
    logger.video(1, "open_loop", torch.zeros(2, 3, 5, 3, dtype=torch.uint8))
    logger.load_state_dict(logger.state_dict())
    logger.close()
    assert sink.lines == [(1, {"a": 2.0}), "closed"]


@pytest.fixture
def wandb(monkeypatch):
    """A fake package that records its calls."""
    calls = []
    module = types.ModuleType("wandb")
    module.calls = calls
    module.Video = lambda path, format: ("video", Path(path).name, format)
    run = types.SimpleNamespace(
        log=lambda figures, step: calls.append((step, figures)),
        finish=lambda: calls.append("finished"),
    )
    module.init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases(tmp_path, wandb):
    folder = run_folder(tmp_path / "maze runs" / "seed-3", {"seed": 3}, resume=False)
    logger = Logger(folder, resume_at=0, sinks=[WandbSink(folder, project="mazes", name="n")])
    logger.write(64, {"loss": 2.0})
    logger.video(64, "open_loop", torch.zeros(2, 3, 5, 3, dtype=torch.uint8))
    logger.close()
    video = {"open_loop": ("video", "open_loop-000000064.gif", "gif")}
    options, *calls = wandb.calls
    assert calls == [(64, {"loss": 2.0}), (64, video), "finished"]
    assert (options["project"], options["name"]) == ("mazes", "n")
    assert (options["id"], options["resume"]) == ("maze-runs-seed-3", "allow")
    assert (options["dir"], options["config"]) == (str(folder), {"seed": 3, "format": FORMAT})


def test_without_wandb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = r"WandbSink needs the package 'wandb': pip install wandb"
    with pytest.raises(ImportError, match=message):
        WandbSink(tmp_path)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"loss": torch.zeros(3, 2)},
            r"metric 'loss' has shape \[3, 2\]; log a number or a tensor",
        ),
        ({"step": torch.zeros(())}, "a metric cannot be called 'step'"),
        ({"step": 3}, "a metric cannot be called 'step'"),
    ],
)
def test_wrong_metrics(tmp_path, metrics, message):
    logger = Logger(tmp_path, sinks=[])
    with pytest.raises(ValueError, match=message):
        logger.add(metrics)
    with pytest.raises(ValueError, match=message):
        logger.write(1, metrics)
    with pytest.raises(ValueError, match=message):
        logger.timing(1, metrics)
    assert not (tmp_path / "metrics.jsonl").exists()


def run(logger, begin, end):
    """A run whose figures depend only on the step."""
    for step in range(begin, end):
        torch.manual_seed(step)
        logger.add({"a": torch.rand(()), "b": step / 3})
        if step % 3 == 2:
            logger.write(step, {"updates": step})
        if step % 4 == 3:
            logger.episode(step, score=float(torch.rand(())), length=4)
        logger.timing(step, {"x": step})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


@given(save=st.integers(0, 19), lost=st.integers(0, 9), torn=st.booleans())
def test_a_resumed_run_writes_the_bytes_of_the_uninterrupted_one(
    tmp_path_factory, save, lost, torn
):
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    logger = Logger(whole, sinks=[])
    run(logger, 0, 20)
    logger.close()
    logger = Logger(broken, sinks=[])
    run(logger, 0, save)
    state = logger.state_dict()
    run(logger, save, min(20, save + lost))
    if torn:
        with (broken / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 3, "a": 0.1')
    logger.close()
    logger = Logger(broken, sinks=[])
    logger.load_state_dict(state)
    run(logger, save, 20)
    logger.close()
    assert files(broken) == files(whole)


def test_a_state_is_plain_and_does_not_change_later(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    logger.add({"loss": torch.tensor(1.0)})
    state = logger.state_dict()
    logger.add({"loss": torch.tensor(1.0)})
    assert state == {
        "numbers": {},
        "tensors": {"loss": torch.tensor(1.0)},
        "counts": {"loss": 1},
        "offsets": {"metrics": 0, "timing": 0, "episodes": 0, "failures": 0},
        "step": -1,
        "episodes": 0,
        "by_task": {},
        "scores": [],
    }
    other = Logger(tmp_path, sinks=[])
    other.load_state_dict(state)
    other.add({"loss": torch.tensor(1.0)})
    assert state["tensors"] == {"loss": torch.tensor(1.0)}


def test_episodes_are_counted_and_the_last_ten_averaged(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    assert (logger.episodes, logger.score) == (0, None)
    for score in range(12):
        logger.episode(score, score=score, length=1)
    logger.close()
    other = Logger(tmp_path, sinks=[])
    other.load_state_dict(logger.state_dict())
    assert (other.episodes, other.score) == (logger.episodes, logger.score) == (12, 6.5)


def test_episodes_of_several_tasks(tmp_path):
    """Each line names its task, sinks get a tag per task, scores are averaged per task."""
    recorder = Recorder()
    logger = Logger(tmp_path, sinks=[recorder])
    for score in range(12):
        logger.played(score, [(0, float(score), 1)], task="walk")
    logger.episode(12, score=100.0, length=3, task="run")
    assert [logger.score_of(task) for task in ("walk", "run", "fly")] == [6.5, 100.0, None]
    last = (tmp_path / "episodes.jsonl").read_text().splitlines()[-1]
    assert last == '{"step": 12, "length": 3, "score": 100.0, "task": "run"}'
    written = {"episode/run/score": 100.0, "episode/run/length": 3}
    assert recorder.calls[-1] == ("write", 12, written)
    logger.close()
    other = Logger(tmp_path, sinks=[])
    other.load_state_dict(logger.state_dict())
    assert other.score_of("walk") == 6.5


def test_resume_at_drops_what_came_later(tmp_path):
    recorder = Recorder()
    logger = Logger(tmp_path, sinks=[])
    for step in (1, 5, 5, 9):
        logger.write(step)
    logger.close()
    Logger(tmp_path, sinks=[]).close()
    assert len(lines(tmp_path)) == 4
    Logger(tmp_path, resume_at=5, sinks=[recorder])
    assert lines(tmp_path) == ['{"step": 1}']
    assert recorder.calls == [("resume", 5)]
    Logger(tmp_path, resume_at=0, sinks=[])
    assert lines(tmp_path) == []


def test_a_file_that_lost_lines_is_reported(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    logger.write(1)
    state = logger.state_dict()
    logger.close()
    (tmp_path / "metrics.jsonl").unlink()
    logger = Logger(tmp_path, sinks=[])
    with pytest.warns(UserWarning, match=r"metrics.jsonl has 0 bytes, but had 12 when the check"):
        logger.load_state_dict(state)
    logger.write(2)
    logger.close()
    assert lines(tmp_path) == ['{"step": 2}']


def test_a_half_written_line_is_cut_and_not_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "a": 2.0}\n{"step": 2, "a"')
    assert read_jsonl(path) == [{"step": 1, "a": 2.0}]
    sink = JsonlSink(path)
    sink.write(3, {"b": 1.0, "a": 0.5})
    sink.close()
    assert read_jsonl(path) == [{"step": 1, "a": 2.0}, {"step": 3, "a": 0.5, "b": 1.0}]
    assert read_jsonl(tmp_path / "missing.jsonl") == []
    path.write_bytes(b'{"step": 1}\nstep 2\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is not JSON; restore the fi"):
        read_jsonl(path)


def events(folder):
    """(tag, step, value) of the scalars that TensorBoard shows, and the tags of its pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), {"scalars": 0, "images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = [(tag, e.step, e.value) for tag in tags["scalars"] for e in accumulator.Scalars(tag)]
    pictures = [
        (tag, e.encoded_image_string[:6]) for tag in tags["images"] for e in accumulator.Images(tag)
    ]
    return sorted(scalars), pictures


def test_tensorboard_events(tmp_path):
    logger = Logger(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    logger.add({"loss": torch.tensor(2.0)})
    logger.write(10)
    logger.episode(11, score=3.0, length=5)
    logger.video(12, "open_loop", torch.zeros(2, 3, 5, 3, dtype=torch.uint8))
    logger.close()
    scalars, pictures = events(tmp_path / "tensorboard")
    assert scalars == [("episode/length", 11, 5.0), ("episode/score", 11, 3.0), ("loss", 10, 2.0)]
    assert pictures == [("open_loop", b"GIF89a")]


def test_tensorboard_hides_what_was_written_after_the_checkpoint(tmp_path):
    logger = Logger(tmp_path)
    logger.write(1, {"a": 1.0})
    state = logger.state_dict()
    logger.write(2, {"a": 99.0})
    logger.close()
    time.sleep(1.1)  # TensorBoard orders event files by the second in their names
    logger = Logger(tmp_path)
    logger.load_state_dict(state)
    logger.write(2, {"a": 2.0})
    logger.close()
    assert events(tmp_path / "tensorboard")[0] == [("a", 1, 1.0), ("a", 2, 2.0)]


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = r"TensorBoardSink needs the extra .run. \(tensorboard\): pip install -e "
    with pytest.raises(ImportError, match=message):
        TensorBoardSink(tmp_path)
    Logger(tmp_path, sinks=[]).close()


def test_every_line_is_json(tmp_path):
    logger = Logger(tmp_path, sinks=[])
    run(logger, 0, 9)
    logger.close()
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [2, 5, 8]

"""One run in a `with` block: started, stopped, failed, resumed; which sinks it writes to."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from worldblocks.replay import SequenceReplay
from worldblocks.run import Checkpoint, Every, Run, Session, read_config, read_jsonl
from worldblocks.run.loop.warnings import at_the_start
from worldblocks.run.saves.session import EARLIER


@dataclass(frozen=True)
class Config:
    logdir: str
    steps: int = 6
    resume: bool = False
    log: tuple[str, ...] = ()
    lr: float = 0.5
    judge: int = 1


class Recorder:
    """A sink that records its calls."""

    def __init__(self, logdir=None):
        self.lines, self.closed = [], False

    def write(self, step, metrics):
        self.lines.append((step, dict(metrics)))

    def close(self):
        self.closed = True


def play(cfg, *, at=-1, failure="", sign=None, may_change=()):
    """A loop that adds 1 to a weight per step, with an event at one step."""
    layer, log = nn.Linear(1, 1), Every(2)
    nn.init.zeros_(layer.weight)
    with Run(cfg, "a/toy.py", {"layer": layer, "log": log}, may_change=may_change) as run:
        step, carry = run.restore(step=0, carry=torch.zeros(2)).values()
        while not run.must_stop(failure if step == at else "") and step < cfg.steps:
            step, carry = step + 1, carry + 1
            layer.weight.data += 1
            run.logger.add({"weight": layer.weight.item()})
            if log(step):
                run.log(step, updates=step)
            if sign and step == at:
                signal.raise_signal(sign)
            run.show(step, step)
        completed = run.finish(step=step, carry=carry)
    return run, completed, step, carry.tolist(), layer.weight.item()


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["toy.py", "smoke"])
    return Config(str(tmp_path / "run"))


def test_a_run_from_start_to_end(cfg, capsys):
    run, *found = play(cfg)
    assert found == [True, 6, [6.0, 6.0], 6.0]
    assert run.exit_code == 0
    assert capsys.readouterr().out == f"run folder {run.folder}\n"
    assert read_config(run.folder)["recipe"] == "toy"
    lines = read_jsonl(run.folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["weight"] for line in lines] == [1.5, 3.5, 5.5]
    assert all("steps/s" in line for line in read_jsonl(run.folder / "timing.jsonl"))


@pytest.mark.parametrize(
    ("how", "code"),
    [({"failure": "too many failures\n"}, 1), ({"sign": signal.SIGTERM}, 128 + 15)],
)
def test_a_run_that_stops_early_says_how_to_continue_and_does(cfg, capsys, how, code):
    run, *found = play(cfg, at=3, **how)
    assert found == [False, 3, [3.0, 3.0], 3.0]
    assert run.exit_code == code
    command = f"python {Path('toy.py').absolute()} smoke --logdir {run.folder} --resume"
    reason = how.get("failure", "")
    said = capsys.readouterr().out
    assert f"{reason}saved at step 3; continue with:\n  {command}\n" in said
    run, *found = play(replace(cfg, resume=True))
    assert found == [True, 6, [6.0, 6.0], 6.0]
    assert [line["weight"] for line in read_jsonl(run.folder / "metrics.jsonl")] == [1.5, 3.5, 5.5]


def test_signals_go_back_when_the_loop_ends_however_it_ends(cfg):
    before = signal.getsignal(signal.SIGTERM)
    with Run(cfg, "toy.py", {}) as run:
        assert signal.getsignal(signal.SIGTERM) != before
        run.restore(step=0)
        run.finish(step=0)
        assert signal.getsignal(signal.SIGTERM) == before
    run = Run(replace(cfg, resume=True), "toy.py", {})
    with pytest.raises(RuntimeError, match="inside"), run:
        raise RuntimeError("inside")
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_may_change_when_a_run_is_resumed(cfg):
    play(cfg)
    changed = replace(cfg, resume=True, steps=8, log=("tensorboard",), judge=0)
    with pytest.raises(ValueError, match="judge is 1 there, 0 here"):
        play(changed)
    assert play(changed, may_change=["judge"])[2:] == (8, [8.0, 8.0], 8.0)
    with pytest.raises(ValueError, match=r"lr is 0.5 there, 0.1 here"):
        play(replace(cfg, resume=True, lr=0.1))
    with pytest.raises(FileExistsError, match="holds a run already; add --resume"):
        play(cfg)


def test_sinks_by_name_and_one_of_your_own(cfg, monkeypatch):
    made = {}
    for name in ("TensorBoardSink", "WandbSink"):
        sink = lambda logdir, name=name: made.setdefault(name, Recorder())  # noqa: E731
        monkeypatch.setattr(f"worldblocks.run.log.sinks.{name}", sink)
    own = Recorder()
    with Run(replace(cfg, log=("wandb", "tensorboard", "wandb")), "toy.py", {}) as run:
        run.logger.sinks.append(own)
        run.restore(step=0)
        run.log(4, score=2.5)
    assert list(made) == ["WandbSink", "TensorBoardSink"]
    for sink in (own, *made.values()):
        assert sink.lines[0] == (4, {"score": 2.5})
        assert sink.closed


def test_a_sink_that_does_not_exist(cfg):
    with pytest.raises(ValueError, match="no sink is called 'csv'; --log takes tensorboard, wandb"):
        play(replace(cfg, log=("csv",)))
    assert play(cfg)[1], "the folder is free for the corrected command"


def test_what_earlier_versions_saved_under_another_name(tmp_path):
    for now, then in EARLIER.items():
        passed, new = Every(3), Every(3)
        passed(7)
        Session(Checkpoint(tmp_path / now), {then: passed}).save(**{then: torch.ones(2)})
        restored = Session(Checkpoint(tmp_path / now), {now: new}).restore(**{now: torch.zeros(2)})
        assert new.state_dict() == {"passed": 2}
        assert restored[now].tolist() == [1.0, 1.0]


def test_a_refused_resume_leaves_the_folder_as_it_was(cfg):
    folder, *_ = play(cfg)
    before = (folder.folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"has made 6 steps already and cannot .* --steps 4; give"):
        play(replace(cfg, resume=True, steps=4, log=("tensorboard",)))
    assert (folder.folder / "config.json").read_bytes() == before
    assert play(replace(cfg, resume=True, steps=8))[2] == 8
    assert read_config(folder.folder)["steps"] == 8


def test_a_complete_run_says_so(cfg, capsys):
    play(cfg)
    play(replace(cfg, resume=True))
    assert "all 6 steps were made already; give a larger --steps" in capsys.readouterr().out


@dataclass(frozen=True)
class Learner:
    steps: int = 100
    envs: int = 4
    capacity: int = 1000
    length: int = 9
    prefill: int = 64
    train_ratio: float = 1.0
    log_every: int = 50


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"prefill": 65}, "give 64 windows of --length 9, and training starts after --prefill 65"),
        ({"length": 10}, "give 60 windows of --length 10"),
        ({"length": 500}, "give 0 windows of --length 500"),
        ({"capacity": 67, "steps": 1000, "prefill": 67}, "give 64 windows"),
        ({"train_ratio": 0.0}, "no update: --train-ratio is 0"),
        ({"log_every": 101}, "no line of metrics: --log-every is 101, --steps is 100"),
        ({"log_every": 0}, "no line of metrics: --log-every is 0"),
    ],
)
def test_what_a_run_will_never_do(changes, told):
    sentences = at_the_start(Learner(**changes))
    assert len(sentences) == bool(told)
    assert told in "".join(sentences)


@pytest.mark.parametrize("count", [15, 16])
def test_as_many_windows_as_the_replay_gives(count):
    cfg = Learner(envs=2, steps=2 * count, length=8, prefill=16, log_every=1)
    replay = SequenceReplay(capacity=cfg.capacity, streams=cfg.envs, length=cfg.length)
    flags, zeros = torch.zeros(cfg.envs, dtype=torch.bool), torch.zeros(cfg.envs)
    flag = dict.fromkeys(("is_first", "is_last", "is_terminal"), flags)
    for _ in range(count):
        row = {"obs": {"x": zeros}, "prev_action": zeros[:, None], "reward": zeros, **flag}
        replay.add(**row, carry={"x": zeros})
    assert bool(at_the_start(cfg)) == (len(replay) < cfg.prefill)


def test_a_run_without_updates_and_episodes(cfg, capsys):
    with Run(cfg, "toy.py", {}) as run:
        run.restore(step=0, updates=0)
        run.show(10_000, 0)
        run.show(10_001, 0)
        run.finish(step=10_001, updates=0)
    said = capsys.readouterr().out
    assert said.count("no episode has ended in 10,000 steps, so there is no score yet; if") == 1
    assert "no episode has ended in 10,001" not in said
    assert "this run made no update: the agent is as it began" in said


def test_the_command_of_a_tool_over_the_run(cfg):
    run, *_ = play(cfg)
    assert run.command("evaluate.py").endswith(
        f"{run.folder} --recipe {Path('a/toy.py').absolute()}"
    )

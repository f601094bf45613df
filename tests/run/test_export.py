import json
import os

import pytest
import torch

from worldblocks.evaluate import compare
from worldblocks.run import Checkpoint, Logger, Session, export, read_config, run_folder
from worldblocks.run.export.__main__ import main
from worldblocks.run.saves.durable import fingerprint

CONFIG = {"recipe": "dreamerv3_gym", "env": "CartPole-v1", "seed": 0, "steps": 100}


class Replay:
    """A large store."""

    def save(self, folder):
        (folder / "rows").write_bytes(bytes(100_000))
        return {"files": {"rows": fingerprint(folder / "rows")}}

    def load(self, folder, manifest):
        raise AssertionError("a copy reads no replay")


class Moments:
    """A large part, like the state of an optimiser."""

    def state_dict(self):
        return {"momentum": torch.ones(50_000)}


def train(folder, steps=100, resume=False, **config):
    """Start or continue a run."""
    torch.manual_seed(steps)
    agent = torch.nn.Linear(3, 2)
    config = {**CONFIG, "logdir": str(folder), "steps": steps, **config}
    run_folder(folder, config, resume, may_change=("steps",))
    logger = Logger(folder, sinks=[])
    logger.write(steps, {"loss": steps / 3})
    logger.episode(steps, score=1.0, length=9)
    logger.close()
    for name in ("curve.png", "report.json", "report.txt", "notes.txt"):
        (folder / name).write_text(f"{name} at {steps}")
    parts = {"agent": agent, "optimizer": Moments(), "replay": Replay()}
    session = Session(Checkpoint(folder), parts)
    session.save(step=steps, updates=7, carry=torch.zeros(4))
    return agent


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_copy_holds_what_is_read_later_and_no_more(tmp_path):
    agent = train(tmp_path / "run")
    folder = export(tmp_path / "run", tmp_path / "kept" / "cartpole")
    names = ["checkpoint/manifest.json", "checkpoint/state-0000001.safetensors", "config.json"]
    names += ["curve.png", "episodes.jsonl", "metrics.jsonl", "report.json", "report.txt"]
    assert files(folder) == names
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10_000 + 2 * 4096
    weights = Checkpoint(folder).weights("agent")
    assert weights.keys() == agent.state_dict().keys()
    assert all(torch.equal(weights[name], own) for name, own in agent.state_dict().items())
    assert Checkpoint(folder).header()["position"] == {"step": [100], "updates": [7]}
    assert read_config(folder) == {**CONFIG, "logdir": "", "format": 1}
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines
    assert "100" in compare([folder])


def test_a_run_that_went_on_replaces_its_copy(tmp_path):
    train(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("mine")
    agent = train(tmp_path / "run", steps=200, resume=True)
    export(tmp_path / "run", tmp_path / "copy")
    assert torch.equal(Checkpoint(tmp_path / "copy").weights("agent")["bias"], agent.bias.data)
    assert (tmp_path / "copy" / "curve.png").read_text() == "curve.png at 200"
    assert files(tmp_path / "copy" / "checkpoint") == ["manifest.json", "state-0000001.safetensors"]
    assert (tmp_path / "copy" / "README.md").read_text() == "mine"


def test_a_run_without_its_replay_is_copied(tmp_path):
    train(tmp_path / "run")
    os.unlink(tmp_path / "run" / "checkpoint" / "replay" / "rows")
    export(tmp_path / "run", tmp_path / "copy")


def another_seed(path):
    train(path, seed=1)


def other_figures(path):
    train(path, steps=50)


@pytest.mark.parametrize("other", [another_seed, other_figures])
def test_another_run_is_not_replaced(tmp_path, other):
    train(tmp_path / "run")
    other(tmp_path / "other")
    export(tmp_path / "other", tmp_path / "copy")
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*.*")}
    with pytest.raises(
        FileExistsError, match=r"copy holds another run, which a copy of .*run would"
    ):
        export(tmp_path / "run", tmp_path / "copy")
    assert {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*.*")} == before


def test_a_run_is_not_copied_onto_itself(tmp_path):
    train(tmp_path / "run")
    with pytest.raises(FileExistsError, match="run is the run to copy; give another folder"):
        export(tmp_path / "run", tmp_path / "x" / ".." / "run")


def test_the_command(tmp_path, capsys):
    train(tmp_path / "run")
    assert main([str(tmp_path / "run"), str(tmp_path / "copy")]) == 0
    assert "kB, of which weights 0." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nothing"), str(tmp_path / "other")])
    assert "nothing holds no run: there is no config.json" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "empty"), str(tmp_path / "other")])
    assert "nothing has been saved there" in capsys.readouterr().err
    Checkpoint(tmp_path / "empty").save({"model": {"w": torch.ones(1)}})
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "empty"), str(tmp_path / "other")])
    assert "error: no tensors under 'agent/' in" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()

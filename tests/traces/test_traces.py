"""Runs of the recipes are as recorded, and a change is found at the event where it begins."""

import copy
import json
import re
import subprocess

import pytest
import torch

import dreamerv3_gym
import worldblocks as wb
from traces import command, record, runs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NEEDS = dict.fromkeys(runs.NAMES, ("dm_control",)) | {
    "dreamerv3_atari": ("ale_py",),
    "multitask_atari": ("ale_py",),
    "dreamerv3_gym": ("gymnasium",),
    "vae": ("gymnasium",),
    "world_model": ("gymnasium",),
    "glam": ("minigrid",),
    "glam_policy": ("minigrid", "peft"),
}
# A second or two each; `--thorough` compares all.
QUICK = ["dreamerv3_gym", "multitask_dmc", "glam", "vae", "adapt"]
NAMES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in runs.NAMES]
GYM = "dreamerv3_gym"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current trace of one recipe on this machine."""
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    folder = tmp_path_factory.mktemp("traces")
    assert command.main([GYM, "--record", "--folder", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_as_recorded(name, request):
    for needed in NEEDS[name]:
        pytest.importorskip(needed)
    path = f"{name}.json"
    if name == GYM:
        now = record.read(request.getfixturevalue("folder") / path)
    else:
        now = runs.traced(name)
    ok, said = command.verdict(record.read(command.HERE / path), now)
    assert ok, f"{name}: {said}"


def test_small_files_of_every_recipe():
    sizes = {path.stem: path.stat().st_size for path in command.HERE.glob("*.json")}
    assert sorted(sizes) == sorted(runs.NAMES)
    recipes = {path.stem for path in (command.ROOT / "recipes").glob("*.py")}
    assert recipes - {"evaluate", "diagnose"} == set(runs.NAMES), "those two train nothing"
    assert max(sizes.values()) < 40_000
    assert sum(sizes.values()) < 250_000


def a_loss(patch):
    """A loss weight is larger by one part in ten thousand."""
    function = dreamerv3_gym.world_model_loss

    def weighed(*args):
        post, losses, metrics = function(*args)
        return post, losses | {"rep": 1.0001 * losses["rep"]}, metrics

    patch.setattr(dreamerv3_gym, "world_model_loss", weighed)


def a_gradient(patch):
    """A loss with the same value and no gradient."""
    function = dreamerv3_gym.replay_critic_loss
    patch.setattr(dreamerv3_gym, "replay_critic_loss", lambda *args: function(*args).detach())


def no_write_back(patch):
    """Refreshed latents never reach the replay."""

    def learn(train, agent, replay, size):
        batch = dreamerv3_gym.sample(agent, replay, size)
        return train(batch._replace(row=None))[1]

    patch.setattr(dreamerv3_gym, "learn", learn)


def a_noise(patch):
    """One more random number for each action."""
    function = dreamerv3_gym.act
    patch.setattr(dreamerv3_gym, "act", lambda *args: (torch.rand(()), function(*args))[1])


def a_ratio(patch):
    """Fewer updates than requested."""
    ratio = wb.run.Ratio
    patch.setattr(wb.run, "Ratio", lambda share: ratio(0.9 * share))


def the_last_save(patch):
    """A run that does not save after its last step."""
    session = wb.run.Session

    class Once(session):
        def save(self, **position):
            if position["step"] < dreamerv3_gym.PRESETS["smoke"].steps:
                super().save(**position)

    patch.setattr(wb.run.loop.run, "Session", Once)


FAULTS = {
    a_loss: r"update number 1: the loss rep is 0\.\d+, recorded 0\.\d+",
    a_gradient: r"update number 1: gradients and weights: other values, \w{8}, recorded \w{8}",
    no_write_back: r"add number \d+: recorded is write_back rows \[2, 8\]",
    a_noise: r"add number 1: other values, \w{8}, recorded \w{8}",
    a_ratio: r"add number \d+: recorded is update",
    the_last_save: r"replay number 1: recorded is save step 256, updates \d+",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_where_it_begins(folder, fault, monkeypatch, capsys):
    fault(monkeypatch)
    assert command.main([GYM, "--folder", str(folder)]) == 1
    said, count = capsys.readouterr().out.splitlines()
    begins = rf"{GYM}: not as recorded; the first difference is at event \d+ of \d+, "
    assert re.match(begins + FAULTS[fault], said), said
    assert count == "0 of 1 are as recorded"


def changed(path, values):
    """A trace of three events, one of them changed at a path of places and keys."""
    losses = {"dyn": 2.0, "actor": 0.0001, "gradients and weights": "aa"}
    events = [["act", {}, "aa"], ["update", {}, losses], ["log", {"step": 4}, "aa"]]
    found = {"machine": {"torch": "1"}, "events": copy.deepcopy(events)}
    *path, last = path
    part = found
    for step in path:
        part = part[step]
    part[last] = values
    return found


SAME = changed(["machine", "torch"], "1")
LOSSES = ["events", 1, 2]


@pytest.mark.parametrize(
    ("path", "values", "exact", "loose"),
    [
        (["events", 0, 2], "bb", "event 1 of 3, act number 1: other values, bb, recorded aa", ""),
        ([*LOSSES, "dyn"], 2.00001, "the loss dyn is 2.00001, recorded 2.0", ""),
        ([*LOSSES, "dyn"], 2.00003, "the loss dyn is 2.00003, recorded 2.0", None),
        ([*LOSSES, "dyn"], float("nan"), "the loss dyn is nan, recorded 2.0", None),
        ([*LOSSES, "actor"], 0.00010002, "the loss actor is 0.00010002, recorded 0.0001", None),
        (LOSSES, {"dyn": 2.0}, "losses ['dyn'], recorded ['dyn', 'actor', 'grad", None),
        (["events", 2, 1], {"step": 5}, "log number 1: step 5, recorded 4", None),
        (["events", 2], ["save", {}, ""], "save number 1: recorded is log step 4", None),
        (["events"], SAME["events"][:2], "the end: 2 events, recorded 3; the recorded go on", None),
        (["events"], [*SAME["events"], ["save", {}, ""]], "the new go on with save", None),
    ],
)
def test_the_first_difference(path, values, exact, loose):
    """To the bit on one machine; on another by events and the losses of the first update."""
    now = changed(path, values)
    assert command.verdict(SAME, copy.deepcopy(SAME)) == (True, "equal to the bit, 3 events")
    ok, said = command.verdict(SAME, now)
    assert not ok
    assert exact in said
    now["machine"] = {"torch": "2"}
    ok, said = command.verdict(SAME, now)
    assert ok is (loose == "")
    assert (exact in said) is (loose is None)
    assert "recorded elsewhere: torch 1, here 2" in said


def test_what_is_recorded_anew_is_said(tmp_path, monkeypatch, capsys):
    file = tmp_path / "vae.json"
    for found, said in (
        (SAME, "vae: recorded, 3 events"),
        (SAME, "vae: unchanged"),
        (
            changed([*LOSSES, "dyn"], 2.5),
            "vae: changed: the losses of the first update differ by at most 0.25 (dyn); event 2 of "
            "3, update number 1: the loss dyn is 2.5, recorded 2.0",
        ),
    ):
        monkeypatch.setattr(command, "traced", lambda _, found=found: found)
        assert command.main(["vae", "--record", "--folder", str(tmp_path)]) == 0
        assert capsys.readouterr().out == said + "\n"
        assert json.loads(file.read_text(encoding="utf-8")) == found
    assert command.main(["vae", "--folder", str(tmp_path)]) == 0
    assert "equal to the bit, 3 events" in capsys.readouterr().out


def test_messages(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command.main(["vea"])
    assert "no trace is called vea; there are dreamerv3_atari, " in capsys.readouterr().err
    assert command.main(["vae", "--folder", str(tmp_path)]) == 1
    wanted = f"vae: no {tmp_path / 'vae.json'}; `python tests/traces vae --record` makes it"
    assert wanted in capsys.readouterr().out
    wanted = "a run to be traced returned 3, not 0, and said:\nhelp"
    with pytest.raises(RuntimeError, match=wanted):
        record.trace(dreamerv3_gym, lambda: (print("help"), 3)[1])
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    wanted = "--base takes a commit that has tests/traces/__main__.py, such as HEAD, got 'HEAD~1'"
    with pytest.raises(SystemExit, match=re.escape(wanted)):
        command.main(["vae", "--base", "HEAD~1"])


@pytest.mark.slow
def test_a_commit_is_recorded_by_its_own_code(tmp_path):
    command.record_commit("HEAD", ["vae"], tmp_path)
    found = record.read(tmp_path / "traces" / "vae.json")
    assert found["machine"] == record.machine()
    assert not (tmp_path / "tree").exists()

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from worldblocks.recipes import folder
from worldblocks.run import (
    default_logdir,
    load_config,
    named_folder,
    read_config,
    result_folder,
    resume_command,
    run_folder,
    tool_command,
)

CONFIG = {"task": "boxing", "steps": 100, "betas": (0.9, 0.99), "size": None}


def test_a_new_run_gets_its_config(tmp_path):
    folder = run_folder(tmp_path / "a" / "run", CONFIG, resume=False)
    assert folder == tmp_path / "a" / "run"
    written = {**CONFIG, "betas": [0.9, 0.99], "format": 1}
    assert json.loads((folder / "config.json").read_text()) == written
    assert read_config(folder)["task"] == "boxing"


def test_an_existing_folder_without_a_run_is_fine(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    run_folder(tmp_path, CONFIG, resume=False)
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_a_run_is_not_overwritten(tmp_path):
    run_folder(tmp_path, CONFIG, resume=False)
    with pytest.raises(FileExistsError, match="add --resume to continue it, or give another --log"):
        run_folder(tmp_path, {"task": "pong"}, resume=False)
    assert read_config(tmp_path)["task"] == "boxing"


def test_the_same_config_resumes(tmp_path):
    run_folder(tmp_path, CONFIG, resume=False)
    assert run_folder(tmp_path, CONFIG, resume=True) == tmp_path


def test_another_config_does_not(tmp_path):
    run_folder(tmp_path, CONFIG, resume=False)
    other = {**CONFIG, "task": "pong", "steps": 200, "seed": 1}
    with pytest.raises(ValueError, match="seed is 'absent' there, 1 here; steps is 100 there, 200"):
        run_folder(tmp_path, other, resume=True)
    other = {**CONFIG, "steps": 200}
    run_folder(tmp_path, other, resume=True, may_change={"steps"})
    assert read_config(tmp_path)["steps"] == 200


def test_nothing_to_resume(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nothing to resume in .*missing: it has no config"
    ):
        run_folder(tmp_path / "missing", CONFIG, resume=True)
    assert not (tmp_path / "missing").exists()


def test_reading_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no run: there is no config.json in it"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["", '{"units": 16', "[1, 2]"])
def test_reading_a_broken_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is truncated or corrupted; restore it"):
        read_config(tmp_path)


def test_a_folder_is_named_after_the_run_and_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(r"logs/cpu-boxing-0-\d{8}-\d{6}", default_logdir("cpu", "boxing", 0))


LOGDIRS = """
import sys, time
time.strftime = lambda _: "now"
from worldblocks.run import default_logdir, run_folder
folders = [default_logdir("cpu", 0) for _ in range(20)]
run_folder(folders[0], {}, resume=False)
print(*folders, flush=True)
sys.stdin.read()
"""
RUNS = """
import sys, time
from worldblocks.run import run_folder
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    run_folder(sys.argv[1], {"who": sys.argv[3]}, resume=sys.argv[4] == "resume")
    print("mine", flush=True)
    sys.stdin.read()
except OSError as error:
    print(error)
"""


def processes(script, argument_lists, folder):
    """Start one process for each list of arguments, at the same time."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in argument_lists
    ]


def test_runs_of_one_second_get_folders_of_their_own(tmp_path):
    started = processes(LOGDIRS, [[]] * 3, tmp_path)
    made = [one.stdout.readline().split() for one in started]
    for one in started:
        one.communicate("")
    folders = [name for names in made for name in names]
    assert len(set(folders)) == 60
    assert {f"logs/cpu-0-now{end}" for end in ["", *(f"-{n}" for n in range(2, 61))]} == {*folders}
    left = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("config.json")}
    assert left == {first for first, *_ in made}
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {Path(f).name for f in left}


def test_two_processes_never_write_into_one_folder(tmp_path):
    """Neither as they start together, nor by the advice of the error."""
    until = time.time() + 4  # both have imported by then
    started = processes(RUNS, [(tmp_path / "run", until, who, "new") for who in "abc"], tmp_path)
    said = {who: one.stdout.readline().strip() for who, one in zip("abc", started, strict=True)}
    [winner] = [who for who, line in said.items() if line == "mine"]
    assert read_config(tmp_path / "run")["who"] == winner
    for who, line in said.items():
        if who != winner:
            assert "another process writes the run in" in line
    for how in ("new", "resume"):
        [late] = processes(RUNS, [(tmp_path / "run", 0, winner, how)], tmp_path)
        assert "stop it before --resume, or give another --logdir" in late.communicate()[0]
    started["abc".index(winner)].kill()
    for one in started:
        one.communicate()
    [next_one] = processes(RUNS, [(tmp_path / "run", 0, winner, "resume")], tmp_path)
    assert next_one.communicate("")[0] == "mine\n"


@pytest.mark.parametrize("below", ["", "a", "a/b"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, below, resume):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file is not a folder; give the --logdir of another folder"):
        run_folder(tmp_path / "file" / below, CONFIG, resume)
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(OSError, match="link is not a folder; give the --logdir of another folder"):
        run_folder(tmp_path / "link" / below, CONFIG, resume)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written; give the --logdir of anoth"):
        run_folder(tmp_path / below, CONFIG, resume)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").touch()
    assert default_logdir("cpu").startswith("logs/cpu-")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("cpu", "cpu"),
        ("cpu --logdir c", "cpu"),
        ("cpu --lr 1 --logdir=c --resume --debug", "cpu --lr 1"),
        ("cpu --logdir logs/{timestamp} --lr 1", "cpu --lr 1"),
    ],
)
def test_the_command_that_resumes_from_any_folder(tmp_path, monkeypatch, given, kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["my recipe.py", *given.split()])
    words = shlex.split(resume_command("a b"))
    script, folder = str(tmp_path / "my recipe.py"), str(tmp_path / "a b")
    assert words == ["python", script, *kept.split(), "--logdir", folder, "--resume"]


@pytest.mark.parametrize("given", [["--seeds", "3", "4"], ["--seeds=3"]])
def test_the_command_that_resumes_several_seeds(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["recipe.py", "cpu", *given])
    words = shlex.split(resume_command("logs/runs/seed-3"))
    assert words[2:] == ["cpu", *given, "--logdir", str(tmp_path / "logs" / "runs"), "--resume"]


@pytest.mark.parametrize(
    ("recipe", "named"),
    [("recipes/mine.py", False), ("recipes/My-own.py", True), ("a b/mine.py", True)],
)
def test_the_command_of_a_tool_finds_the_recipe(tmp_path, monkeypatch, recipe, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "evaluate.py").touch()
    words = shlex.split(tool_command("evaluate.py", "a run", recipe, "--task", "x"))
    place = folder() if recipe.startswith("a b") else tmp_path / "recipes"
    own = ["--recipe", str(tmp_path / recipe)] if named else []
    assert words == [
        "python",
        str(place / "evaluate.py"),
        str(tmp_path / "a run"),
        *own,
        "--task",
        "x",
    ]


def test_the_home_and_the_time_in_a_name(monkeypatch):
    monkeypatch.setenv("HOME", "/here")
    assert re.fullmatch(r"/here/a-\d{8}-\d{6}", named_folder("~/a-{timestamp}"))


@dataclass
class Mine:
    env: str = "a"
    steps: int = 3


def test_a_run_of_another_recipe(tmp_path):
    config = {"env": "b", "steps": 5}
    for name, more in (("test_folder", {"old": 1}), ("copied", {})):
        folder = run_folder(tmp_path / name, {**config, **more, "recipe": name}, resume=False)
        assert load_config(folder, Mine) == Mine("b", 5)
    folder = run_folder(tmp_path / "other", {"task": "c", "recipe": "other"}, resume=False)
    with pytest.raises(ValueError, match="made by the recipe 'other', and 'test_folder' has no op"):
        load_config(folder, Mine)


def test_a_second_result_does_not_replace_the_first(tmp_path):
    first, second = (result_folder("", tmp_path / "adapt-walk-0") for _ in range(2))
    assert (first.name, second.name) == ("adapt-walk-0", "adapt-walk-0-2")
    assert result_folder(tmp_path / "mine", tmp_path) == tmp_path / "mine"
    (tmp_path / "mine" / "result.json").touch()
    with pytest.raises(FileExistsError, match=r"holds a result.json already; give another"):
        result_folder(tmp_path / "mine", tmp_path)

import json
import re

import pytest

from worldblocks.run import default_logdir, read_config, resume_command, run_folder

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


def test_a_folder_is_named_after_the_run_and_the_time():
    assert re.fullmatch(r"logs/cpu-boxing-0-\d{8}-\d{6}", default_logdir("cpu", "boxing", 0))


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["cpu"], "python recipe.py cpu --logdir 'a b' --resume"),
        (["cpu", "--logdir", "a b"], "python recipe.py cpu --logdir 'a b' --resume"),
        (["cpu", "--logdir=c", "--resume"], "python recipe.py cpu --logdir=c --resume"),
    ],
)
def test_the_command_that_resumes(monkeypatch, given, command):
    monkeypatch.setattr("sys.argv", ["recipe.py", *given])
    assert resume_command("a b") == command


@pytest.mark.parametrize("given", [["--seeds", "3", "4"], ["--seeds=3"]])
def test_the_command_that_resumes_several_seeds(monkeypatch, given):
    monkeypatch.setattr("sys.argv", ["recipe.py", "cpu", *given])
    words = f"python recipe.py cpu {' '.join(given)} --logdir logs/runs --resume"
    assert resume_command("logs/runs/seed-3") == words

"""The command that lists and copies recipes, and the command that messages give for an extra."""

import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from worldblocks import _install, recipes

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
)


def test_each_is_listed_with_one_sentence(capsys):
    assert recipes.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(re.fullmatch(r"\w+ +[A-Z].{20,}[.]", line) for line in lines), lines


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_the_recipe_and_names_its_extras(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert recipes.main([name]) == 0
    source = ROOT / "recipes" / f"{name}.py"
    assert (tmp_path / f"{name}.py").read_bytes() == source.read_bytes()
    needs = r'(?:  needs pip install -e "\.\[(.*)\]"\n)?'
    said = re.fullmatch(
        rf"copied {name}\.py[^;]*; python {name}\.py --help\n{needs}", capsys.readouterr().out
    )
    assert said
    assert set(said[1].split(",") if said[1] else ()) <= EXTRAS


def test_the_data_of_a_recipe_comes_with_it(tmp_path):
    recipe, data = recipes.copy_recipe("glam", tmp_path)
    assert recipe == tmp_path / "glam.py"
    assert sorted(path.name for path in data.iterdir()) == ["minilm.jsonl", "smollm2.jsonl"]


@pytest.mark.parametrize(
    ("taken", "name"), [("vae.py", "vae"), ("glam.py", "glam"), ("glam_cache", "glam")]
)
def test_what_is_there_stays(taken, name, tmp_path, monkeypatch):
    (tmp_path / taken).write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=rf"^{taken} is there already and stays as it is; rename"):
        recipes.main([name])
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dreamer_gym", "did you mean 'dreamerv3_gym'"),
        ("vae.py", "did you mean 'vae'"),
        ("../vae", "did you mean 'vae'"),
        ("", "there are adapt, diagnose"),
        ("zzz", "there are adapt, diagnose"),
    ],
)
def test_an_unknown_name(name, hint, tmp_path):
    with pytest.raises(ValueError, match=f"^unknown recipe '{name}'; {hint}"):
        recipes.copy_recipe(name, tmp_path)


def test_a_target_that_is_not_a_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"into .*gone, which is not a folder; make it"):
        recipes.copy_recipe("vae", tmp_path / "gone")


def test_an_installation_without_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "__file__", str(tmp_path / "a" / "worldblocks" / "recipes.py"))
    with pytest.raises(FileNotFoundError, match=r"has no recipes at .*; install its wheel again"):
        recipes.folder()


@pytest.mark.parametrize("name", NAMES)
def test_without_its_extra_it_says_what_to_install(name, monkeypatch):
    path = ROOT / "recipes" / f"{name}.py"
    monkeypatch.setitem(sys.modules, "tyro", None)  # as if it were not installed
    monkeypatch.setattr(sys, "argv", [str(path), "smoke"])
    tool = "PRESETS" not in path.read_text(encoding="utf-8")
    extras = ["run"] if tool else _install.extras_of(path.read_text(encoding="utf-8"))
    named, command = "' and '".join(extras), rf"pip install -e \"\.\[{','.join(extras)}\]\""
    message = rf"^{name}\.py needs the extras? '{named}' \(tyro\): {command}$"
    with pytest.raises((ImportError, SystemExit), match=message):
        runpy.run_path(str(path), run_name="__main__")


def test_it_is_a_command():
    command = [sys.executable, "-m", "worldblocks.recipes", "nonesuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("unknown recipe 'nonesuch'; ")


def test_the_package_knows_no_recipe_by_name():
    """It lists what is there; a name in a docstring would go stale."""
    agents = [name for name in NAMES if "_" in name and name != "world_model"]  # a common word
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = [name for name in agents if re.search(rf"\b{name}\b", text)]
        assert found == [], f"{path} names {found}"


WHEEL = "worldblocks-0.1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, ""),
        ({"url": "file:///not/there.whl", "archive_info": {}}, ""),
        ({"url": "FOLDER/" + WHEEL, "archive_info": {}}, " @ FOLDER/" + WHEEL),
        ({"url": "FOLDER", "dir_info": {}}, " @ FOLDER"),
        ({"url": "https://x.org/a.whl", "archive_info": {}}, " @ https://x.org/a.whl"),
        (
            {"url": "https://x.org/a", "vcs_info": {"vcs": "git", "commit_id": "1f"}},
            " @ git+https://x.org/a@1f",
        ),
    ],
)
def test_the_command_for_an_extra(origin, source, tmp_path, monkeypatch):
    home = tmp_path / "a b"
    home.mkdir()
    (home / WHEEL).touch()

    def filled(text):
        return text.replace("FOLDER", home.as_uri())

    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return filled(json.dumps(origin)) if origin else None

    monkeypatch.setattr(_install, "__file__", str(tmp_path / "lib" / "worldblocks" / "a.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    assert _install.install("gym", "llm") == filled(f'pip install "worldblocks[gym,llm]{source}"')


def test_the_command_for_an_extra_without_metadata(tmp_path, monkeypatch):
    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_install, "__file__", str(tmp_path / "lib" / "worldblocks" / "a.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert _install.install("gym") == 'pip install "worldblocks[gym]"'

"""Environments by name: suites, one of your own, and what a stranger's name may not do."""

import functools
import pickle
import sys
from pathlib import Path

import pytest
import tiny_runs
import torch
from countdown import countdown

import worldblocks as wb
from worldblocks.envs.named import SUITES
from worldblocks.spaces import Discrete


@pytest.mark.parametrize(
    ("name", "package", "options", "seen"),
    [
        ("atari:pong", "ale_py", {"size": 32}, "image"),
        ("dmc:cartpole_swingup", "dm_control", {}, "velocity"),
        ("gym:CartPole-v1", "gymnasium", {}, "vector"),
        ("minigrid:BabyAI-GoToLocalS5N2-v0", "minigrid", {}, "direction"),
        ("crafter", "crafter", {}, "image"),
    ],
)
def test_a_suite_before_the_colon(name, package, options, seen):
    pytest.importorskip(package)
    environment = wb.envs.make(name, trusted=False, **options)
    assert seen in environment.observation
    assert environment.reset(0).is_first
    environment.close()
    make = functools.partial(wb.envs.make, name, **options)
    assert pickle.loads(pickle.dumps(make)).args == (name,)


def test_a_suite_of_your_own_keeps_the_promises_of_environments():
    wb.testing.check_env(lambda: countdown("long"), limit=None)


def test_a_factory_of_your_own():
    pytest.importorskip("gymnasium")
    make = functools.partial(wb.envs.make, "countdown:countdown", task="short")
    envs = wb.envs.EnvVector([make] * 2, seed=0)
    assert envs.action == {"action": Discrete(2)}
    before = envs.reset().obs["left"]
    assert all(4 <= left < 12 for left in before.tolist())
    assert torch.equal(envs.step(torch.eye(2)).obs["left"], before - 1)
    assert envs.rows.is_terminal.tolist() == [False, True]
    envs.close()


def test_a_factory_of_a_script_or_a_notebook(monkeypatch):
    """Python has no spec of `__main__`, by which other modules are found."""
    pytest.importorskip("gymnasium")
    monkeypatch.setattr(sys.modules["__main__"], "countdown", countdown, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert 12 <= wb.envs.make("__main__:countdown", task="long").reset(0).obs["left"] < 20


def test_a_suite_of_your_own(monkeypatch):
    monkeypatch.setitem(SUITES, "countdown", countdown)
    assert 12 <= wb.envs.make("countdown:long").reset(0).obs["left"] < 20
    with pytest.raises(ValueError, match="unknown countdown 'tall'; there are short, long"):
        wb.envs.make("countdown:tall")


def test_a_recipe_runs_on_a_suite_of_your_own(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    task = ("--env", "countdown:countdown", "--env-args", '{"task": "long"}')
    tiny_runs.smoke("dreamerv3_gym", tmp_path, *task)
    assert wb.run.read_jsonl(tmp_path / "metrics.jsonl")[-1]["updates"] > 0


def test_every_suite_is_a_public_factory_of_its_name():
    for name, factory in SUITES.items():
        assert getattr(wb.envs, name) is factory
        assert name in wb.envs.__all__


def test_a_suite_wins_over_a_module_of_its_name(monkeypatch):
    """There is a package `gym` on many machines."""
    asked = []
    monkeypatch.setitem(SUITES, "json", lambda name, **options: asked.append((name, options)))
    wb.envs.make("json:loads", repeat=2)
    assert asked == [("loads", {"repeat": 2})]


@pytest.mark.parametrize("name", ["os:getcwd", "gym:os:getcwd", "minigrid:os:x", "worldblocks:x"])
def test_a_name_that_is_not_trusted_imports_nothing(name):
    with pytest.raises(ValueError, match="would import a module, and the name is not trusted"):
        wb.envs.make(name, trusted=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("atri:boxing", r"unknown suite or module 'atri'; did you mean 'atari'\?"),
        ("nothing_like_it:x", r"unknown suite or module 'nothing_like_it'; write 'atari:boxing'"),
        ("atari", r"'atari' is not the name of an environment; write 'crafter', 'atari:boxing'"),
        ("", r"'' is not the name of an environment"),
        (":x", r"unknown suite or module ''"),
        ("crafter:", r"'crafter:' is not the name of an environment; write 'crafter'"),
        ("crafter:x", r"'crafter:x' is not the name of an environment; write 'crafter'"),
    ],
)
def test_names_of_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        wb.envs.make(name)

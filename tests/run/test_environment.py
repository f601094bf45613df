"""What changed since a run is named when the run is loaded or resumed."""

import json
import re
from types import SimpleNamespace

import pytest
from torch import nn

from worldblocks.run import Checkpoint, load_agent
from worldblocks.run.saves.environment import (
    changed_versions,
    check_same_spaces,
    record_environment,
)
from worldblocks.spaces import Continuous, Discrete


def worlds(size=3, actions=2, key="x"):
    action = {"move": Discrete(actions)}
    return SimpleNamespace(observation={key: Continuous((size,))}, action=action)


@pytest.fixture
def run(tmp_path):
    record_environment(tmp_path, {"envs": worlds()})
    Checkpoint(tmp_path).save({"agent": nn.Linear(3, 2).state_dict()})
    return tmp_path


def test_the_same_environment_loads(run):
    load_agent(nn.Linear(3, 2), run, worlds())
    assert not changed_versions(run)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (worlds(size=4), r"observation 'x' was Continuous\(.*3.*\) and is Continuous\(.*4"),
        (worlds(actions=5), r"action 'move' was Discrete\(.*2.*\) and is Discrete\(.*5"),
        (
            worlds(key="y"),
            "observation 'x' was Continuous.* and is absent; observation 'y' was abse",
        ),
    ],
)
def test_another_environment_is_named(run, now, told):
    with pytest.raises(ValueError, match=f"the environment, .* has changed since: {told}"):
        load_agent(nn.Linear(3, 2), run, now)  # its weights fit


def test_another_model_in_the_same_environment(run):
    with pytest.raises(ValueError, match="a checkpoint of another model size"):
        load_agent(nn.Linear(4, 2), run, worlds())


def test_a_run_whose_record_is_lost(run):
    (run / "environment.json").write_text("[")
    load_agent(nn.Linear(3, 2), run, worlds(size=4))
    assert not changed_versions(run)


def test_tasks_that_both_have_are_compared(tmp_path):
    tasks = SimpleNamespace(envs={"walk": worlds(3), "run": worlds(4)})
    record_environment(tmp_path, {"task_envs": tasks, "agent": nn.Linear(3, 2)})
    check_same_spaces(
        tmp_path, {"task_envs": SimpleNamespace(envs={"walk": worlds(3), "hop": worlds(5)})}
    )
    with pytest.raises(ValueError, match="observation 'x' of run was Continuous"):
        check_same_spaces(tmp_path, {"task_envs": SimpleNamespace(envs={"run": worlds(3)})})


def test_packages_of_another_version_are_named(run):
    path = run / "environment.json"
    found = json.loads(path.read_text())
    found["versions"] |= {"torch": "1.0", "numpy": "1.1", "no-such-package": "3"}
    path.write_text(json.dumps(found))
    told = r"was started with numpy 1.1 \(here [\d.]+\), torch 1.0 \(here [^)]+\); its numbers may"
    assert re.search(told, changed_versions(run))

"""A changed environment is named when its run is loaded or resumed."""

from types import SimpleNamespace

import pytest
from torch import nn

from worldblocks.run import Checkpoint, load_agent
from worldblocks.run.saves.spaces import changed_spaces, record_spaces
from worldblocks.spaces import Continuous, Discrete


def worlds(size=3, actions=2, key="x"):
    action = {"move": Discrete(actions)}
    return SimpleNamespace(observation={key: Continuous((size,))}, action=action)


@pytest.fixture
def run(tmp_path):
    record_spaces(tmp_path, worlds())
    Checkpoint(tmp_path).save({"agent": nn.Linear(3, 2).state_dict()})
    return tmp_path


def test_the_same_environment_loads(run):
    load_agent(nn.Linear(3, 2), run, worlds())
    assert not changed_spaces(run, worlds())


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
    with pytest.raises(ValueError, match=f"the environment of .* has changed since: {told}"):
        load_agent(nn.Linear(4, 2), run, now)


def test_another_model_in_the_same_environment(run):
    with pytest.raises(ValueError, match="a checkpoint of another model size"):
        load_agent(nn.Linear(4, 2), run, worlds())


def test_a_run_that_recorded_nothing(run):
    (run / "spaces.json").unlink()
    assert not changed_spaces(run, worlds(size=4))

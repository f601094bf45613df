from typing import NamedTuple

import pytest
import torch
from torch import nn

from worldblocks.run import Checkpoint, Every, Session


class Carry(NamedTuple):
    deter: torch.Tensor
    index: torch.Tensor


class Folder:
    """A store: writes one file of its own."""

    def __init__(self, text):
        self.text = text

    def save(self, folder):
        path = folder / f"{self.text}.txt"
        path.write_text(self.text)
        return {"name": path.name, "files": {}}

    def load(self, folder, manifest):
        self.text = manifest["name"].removesuffix(".txt")


def session(path, units=3):
    module = nn.Linear(2, units)
    parts = {"agent": module, "optimizer": torch.optim.Adam(module.parameters())}
    return Session(Checkpoint(path), parts | {"log": Every(10), "replay": Folder("first")})


def position(step):
    carry = (Carry(torch.full((1, 2), float(step)), torch.zeros(1, 4)), torch.ones(1, 5))
    return {"step": step, "scores": [1.5] * step, "carry": carry}


def test_without_a_checkpoint_the_position_is_the_given_one(tmp_path):
    given = position(0)
    assert session(tmp_path).restore(**given) == given


def test_everything_comes_back(tmp_path):
    one, two = session(tmp_path), session(tmp_path)
    one.parts["log"](25)
    one.stores["replay"].text = "later"
    one.save(**position(3))
    after = torch.rand(4)
    at = two.restore(**position(0))
    assert (at["step"], at["scores"]) == (3, [1.5] * 3)
    carry, action = at["carry"]
    assert isinstance(carry, Carry)
    assert carry.deter.tolist() == [[3.0, 3.0]]
    assert action.tolist() == [[1.0] * 5]
    assert torch.equal(two.parts["agent"].weight, one.parts["agent"].weight)
    assert not two.parts["log"](29)
    assert two.stores["replay"].text == "later"
    assert torch.equal(torch.rand(4), after)  # the random state too


@pytest.mark.parametrize("rows", [torch.ones(2), [1.0, 2.0]])
def test_a_vector_of_environments_of_your_own_saves_what_it_likes(tmp_path, rows):
    class Own:
        rows: object = None

        def state_dict(self):
            return {"rows": rows}

        def load_state_dict(self, state):
            self.rows = state["rows"]

    own = Own()
    part = Session(Checkpoint(tmp_path), {"envs": own})
    part.save(acting=torch.ones(2, 5))
    part.restore(acting=torch.zeros(2, 5))
    assert torch.equal(torch.as_tensor(own.rows), torch.as_tensor(rows))


def test_a_part_of_another_size(tmp_path):
    session(tmp_path).save(**position(1))
    with pytest.raises(ValueError, match="a checkpoint of another model size"):
        session(tmp_path, units=4).restore(**position(0))

"""Environments as prompts: text by hand, history, bytes and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.envs import EnvVector, Step
from worldblocks.language import BABYAI_COMMANDS, Prompted, glam_prompt, read_prompts
from worldblocks.spaces import Continuous, Discrete

COMMANDS = {"go forward": 2, "turn left": 0}


class Corridor:
    """Says where it is; action 2 moves, the fourth step ends."""

    def __init__(self):
        self.observation, self.action = {"place": Discrete(9)}, {"action": Discrete(3)}
        self.describer, self.mission, self.closed = self, "go to the end", False

    def describe(self):
        return [f"You see a wall {9 - self.place} steps forward", f"You did {self.last}"]

    def reset(self, seed):
        self.place, self.last, self.taken = 0, None, 0
        return self.row(True)

    def step(self, action):
        self.last, self.taken = int(action["action"]), self.taken + 1
        self.place += self.last == 2
        return self.row(False)

    def row(self, first):
        obs = {"place": np.array(self.place)}
        return Step(obs, float(self.place), first, self.taken == 4, False)

    def get_state(self):
        return None

    def close(self):
        self.closed = True


def act(command):
    return {"command": np.array(list(COMMANDS).index(command))}


def read(step):
    return read_prompts(torch.from_numpy(step.obs["prompt"]))[0]


def test_the_prompt_by_hand():
    text = glam_prompt("win", ["a", "b"], [["x", "y"], ["z"]], ["b"])
    assert text == (
        "Possible action of the agent: a, b \n Goal of the agent: win \n Observation 0: x, y \n "
        "Action 0: b \n Observation 1: z \n Action 1:"
    )
    with pytest.raises(ValueError, match="got 2 observations and 2 actions"):
        glam_prompt("win", ["a"], [["x"], ["y"]], ["a", "a"])


def test_prompts_hold_recent_observations_and_actions():
    env = Prompted(Corridor(), COMMANDS, history=2, length=400)
    assert env.action == {"command": Discrete(2)}
    first = env.reset(0)
    assert first.is_first
    assert read(first).endswith("9 steps forward, You did None \n Action 0:")
    second = env.step(act("go forward"))
    assert second.reward == 1.0
    assert "Action 0: go forward \n Observation 1: You see a wall 8" in read(second)
    assert read(second).startswith("Possible action of the agent: go forward, turn left \n Goal of")
    third = env.step(act("turn left"))
    assert "You did None" not in read(third), "two observations and no more"
    assert "Observation 0: You see a wall 8 steps forward, You did 2 \n Action 0: turn left" in (
        read(third)
    )
    assert read(third).endswith("You did 0 \n Action 1:")
    assert read(env.reset(1)) == read(first), "nothing of the episode before"
    env.close()
    assert env.get_state() is None


def test_one_observation_only():
    env = Prompted(Corridor(), COMMANDS, history=1, length=400)
    env.reset(0)
    assert read(env.step(act("go forward"))).count("Observation") == 1


def test_a_vector_carries_prompts_and_plays_them_again():
    def vector():
        return EnvVector([lambda: Prompted(Corridor(), COMMANDS, length=400)] * 2, seed=0)

    envs = vector()
    rows = envs.reset()
    assert len(set(read_prompts(rows.obs["prompt"]))) == 1
    for choice in (0, 1, 0):
        rows = envs.step(torch.eye(2)[[choice, 1 - choice]])
    again = vector()
    again.load_state_dict(envs.state_dict())
    assert torch.equal(again.rows.obs["prompt"], rows.obs["prompt"])
    one, other = (e.step(torch.eye(2)).obs["prompt"] for e in (envs, again))
    assert read_prompts(one) == read_prompts(other)
    envs.close()
    again.close()


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_any_text_is_read_back(texts):
    length = max(len(text.encode()) for text in texts) + 1
    rows = [text.encode().ljust(length, b"\0") for text in texts]
    assert read_prompts(torch.tensor([list(row) for row in rows])) == texts


def test_invalid_arguments():
    env = Corridor()
    env.action = {"arm": Continuous((2,))}
    with pytest.raises(ValueError, match="takes an environment with one discrete action, and com"):
        Prompted(env, COMMANDS)
    with pytest.raises(ValueError, match=r"and commands {'fly': 3}"):
        Prompted(Corridor(), {"fly": 3})
    with pytest.raises(
        ValueError, match=r"a prompt has 1[0-9]+ bytes and the observation 50: give"
    ):
        Prompted(Corridor(), COMMANDS, length=50).reset(0)
    with pytest.raises(ValueError, match="a history of 1 or more; got Corridor and history=0"):
        Prompted(Corridor(), COMMANDS, history=0)
    env = Corridor()
    env.describer = None
    with pytest.raises(
        ValueError, match=r"with a describer, such as .* got Corridor and history=3"
    ):
        Prompted(env, COMMANDS)
    with pytest.raises(ValueError, match="in words to continue from a state; it has none"):
        Prompted(Corridor(), COMMANDS).set_state(b"")


def test_a_level_of_babyai_in_words():
    pytest.importorskip("minigrid", reason="needs the extra minigrid")
    from worldblocks.envs import minigrid

    env = Prompted(minigrid("BabyAI-GoToRedBallNoDists-v0"), BABYAI_COMMANDS)
    text = read(env.reset(3))
    commands = "turn left, turn right, go forward, pick up, drop, toggle"
    assert text.startswith(f"Possible action of the agent: {commands} \n Goal of the agent: go to")
    left = env.step({"command": np.array(0)})
    assert "Action 0: turn left \n Observation 1:" in read(left)
    env.close()

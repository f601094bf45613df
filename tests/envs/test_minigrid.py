"""MiniGrid levels: observations, descriptions and goals, compared with BabyAI's own success."""

import functools

import numpy as np
import pytest

pytest.importorskip("minigrid", reason="needs the minigrid extra")

from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Key

import worldblocks as wb
from worldblocks.envs import MiniGridText

LEFT = np.int64(0)


def act(env, action):
    return env.step({"action": action})


@pytest.fixture(scope="module")
def world():
    """An empty room; each test places its own objects."""
    import gymnasium

    env = gymnasium.make("MiniGrid-Empty-8x8-v0", disable_env_checker=True)
    env.reset(seed=0)
    return env


@pytest.fixture
def room(world):
    """The agent at (2, 4) looking right, with a ball, a key and a box in front of it."""
    base = world.unwrapped
    world.reset(seed=0)
    base.grid = Grid(8, 8)
    base.grid.wall_rect(0, 0, 8, 8)
    base.agent_pos, base.agent_dir, base.carrying = (2, 4), 0, None
    base.grid.set(4, 4, Ball("red"))
    base.grid.set(3, 5, Key("blue"))
    base.grid.set(6, 4, Box("green"))
    return base


def facts(text, is_first=False):
    return {name for name, value in text.features(is_first).items() if value}


def test_the_view_by_hand(room):
    """The view is the agent's: its right is down in the grid."""
    assert sorted(MiniGridText(room).describe()) == [
        "You see a blue key 1 step forward and 1 step right",
        "You see a green box 4 steps forward",
        "You see a red ball 2 steps forward",
        "You see a wall 3 steps right",
        "You see a wall 5 steps forward",
    ]


def test_doors_and_a_carried_object(room):
    room.grid.set(3, 4, Door("red", is_open=True))
    room.grid.set(4, 4, Door("blue", is_locked=True))
    room.carrying = Ball("grey")
    lines = MiniGridText(room).describe()
    assert "You see an open red door 1 step forward" in lines
    assert "You see a locked blue door 2 steps forward" in lines
    assert lines[-1] == "You carry a grey ball"


def test_facts_follow_the_episode(room):
    """Reach the ball, take it, put it down next to the key."""
    text = MiniGridText(room, pairs=[("red ball", "blue key")])
    assert facts(text, is_first=True) == set()
    room.step(room.actions.forward)
    assert facts(text) == {"at_red_ball", "done_at_red_ball"}
    assert text.events() == ["reached the red ball"]
    room.step(room.actions.pickup)
    done = {"done_at_red_ball", "done_carry_red_ball"}
    assert facts(text) == {"carry_red_ball"} | done
    assert text.events() == ["picked up the red ball"]
    assert "You carry a red ball" in text.describe()
    room.step(room.actions.drop)
    both = "next_red_ball_blue_key"
    assert facts(text) == {"at_red_ball"} | done, "diagonal is not adjacent"
    room.step(room.actions.pickup)
    room.step(room.actions.left)
    room.step(room.actions.left)
    room.agent_pos, room.agent_dir = (3, 3), 1
    facts(text)
    room.step(room.actions.drop)
    assert facts(text) >= {both, f"done_{both}"}
    assert text.events() == ["put the red ball next to the blue key"]
    assert facts(text, is_first=True) == {both, "at_red_ball"}, "a new episode: nothing is done"


def test_a_thing_faced_at_the_start_is_reached_with_a_step(room):
    room.grid.set(3, 4, Box("grey"))
    text = MiniGridText(room)
    assert facts(text, is_first=True) == {"at_grey_box"}
    assert facts(text) == {"at_grey_box", "done_at_grey_box"}


def test_doors_are_opened(room):
    room.grid.set(3, 4, Door("red"))
    text = MiniGridText(room, verbs=["open"])
    assert facts(text, is_first=True) == set()
    room.step(room.actions.toggle)
    assert facts(text) == {"open_red_door", "done_open_red_door"}
    assert text.events() == ["opened the red door"]


def test_goals_whose_objects_are_present(room):
    phrases = {goal.phrase for goal in MiniGridText(room).candidates()}
    things = ("red ball", "blue key", "green box")
    assert phrases == {f"{verb} the {x}" for verb in ("go to", "pick up") for x in things}
    assert len(MiniGridText(room).goals) == 24 + 18 + 6
    assert MiniGridText(room).goals[0].feature.startswith("done_at_")


def test_fewer_words_make_fewer_features(room):
    text = MiniGridText(room, verbs=["open"], colors=["red", "blue"])
    assert sorted(text.ranges) == [
        f"{done}open_{color}_door" for done in ("done_", "") for color in ("blue", "red")
    ]
    with pytest.raises(ValueError, match="MiniGrid has no verb 'eat'; it has go to, pick up, open"):
        MiniGridText(room, verbs=["eat"])
    with pytest.raises(ValueError, match="MiniGrid has no colour 'pink'"):
        MiniGridText(room, colors=["pink"])
    with pytest.raises(ValueError, match="MiniGrid has no object 'red cow'"):
        MiniGridText(room, pairs=[("red cow", "red ball")])
    with pytest.raises(ValueError, match="nothing can be done"):
        MiniGridText(room, verbs=["open"], kinds=["ball"])


def test_babyais_success_is_the_goal_of_its_mission():
    """On every row of random play, the reward is positive exactly when the goal is done."""
    env = wb.envs.minigrid("BabyAI-GoToLocalS5N2-v0")
    random, won = np.random.default_rng(0), 0
    for seed in range(12):
        step = env.reset(seed)
        name = "feat/done_at_" + "_".join(env.describer.mission.split()[-2:])
        assert not step.obs[name]
        while not step.is_last:
            step = act(env, np.int64(random.integers(3)))
            assert bool(step.obs[name]) == (step.reward > 0)
        won += step.is_terminal
    assert won > 3
    env.close()


def test_one_mission_for_a_whole_run():
    env = wb.envs.minigrid("BabyAI-GoToLocalS5N2-v0", mission="go to a red ball")
    for seed in range(4):
        env.reset(seed)
        assert env.describer.mission.endswith("red ball")
    env.close()


def test_it_keeps_the_promises_of_environments():
    words = {"verbs": ["go to"], "kinds": ["ball", "box"]}
    make = functools.partial(wb.envs.minigrid, "BabyAI-GoToLocalS5N2-v0", words=words)
    wb.testing.check_env(make, limit=None, steps=60)


def test_errors():
    with pytest.raises(ValueError, match="unknown MiniGrid level 'BabyAI-GoToLocal'; did you mean"):
        wb.envs.minigrid("BabyAI-GoToLocal")
    env = wb.envs.minigrid("MiniGrid-Empty-5x5-v0", mission="win", features=False)
    with pytest.raises(ValueError, match="had the mission 'win'; MiniGrid-Empty-5x5-v0 has"):
        env.reset(0)
    env = wb.envs.minigrid("MiniGrid-Empty-5x5-v0", features=False)
    with pytest.raises(ValueError, match=r"no episode is under way; reset\(seed\) begins one"):
        act(env, LEFT)
    with pytest.raises(ValueError, match="to continue from a state; it has none"):
        env.set_state(b"")

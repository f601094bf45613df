"""The known answers: best policies reach the optimum, chance and crippled ones what is stated."""

import itertools
import re

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import worldblocks as wb
from worldblocks import testing
from worldblocks.envs.record import unstack
from worldblocks.spaces import action_size, one_hot_action

WORLDS = [testing.Bandit, testing.First, testing.Delayed, testing.Memory, testing.Target]
WORLDS += [testing.Grid, testing.Catch]
RUNGS = {rung.name: rung for rung in testing.RUNGS}
LINE = r"[Oo]ptimum (?P<optimum>\S+), random (?P<chance>\S+), needed (?P<needed>\S+)\."


def arm(index):
    return {"arm": np.asarray(index)}


def forgetful(step):
    """What an agent without memory can answer: the light of row 0 in row 0, else anything."""
    return {"answer": np.asarray(int(step.is_first and step.obs["light"]))}


def remembering():
    cue = []

    def act(step):
        if step.is_first:
            cue[:] = [step.obs["light"]]
        return {"answer": np.asarray(cue[0])}

    return act


def seeking(step):
    """Towards the goal of Grid, rows first."""
    down, right = step.obs["goal"] - step.obs["you"]
    return {"move": np.asarray((1 if down > 0 else 0) if down else 3 if right > 0 else 2)}


def catching(step):
    """Towards the column of the ball of Catch, from the picture alone."""
    image = step.obs["image"][::6, ::6, 0]
    ball = int(image[:-1].max(0).argmax())
    return {"move": np.asarray(1 + np.sign(ball - int(image[-1].argmax())))}


def mean_score(world, policy, episodes=100):
    """Of a policy that sees one step and gives one action by name."""

    def act(rows):
        [step] = unstack(rows)
        return one_hot_action(world.action, policy(step))[None]

    return np.mean(wb.evaluate.play(act, wb.envs.EnvVector([world], seed=0), episodes))


BEST = {
    "bandit": lambda: lambda step: arm(2),
    "scaled": lambda: lambda step: arm(2),
    "first": lambda: lambda step: {"press": np.asarray(int(step.is_first))},
    "delayed": lambda: lambda step: arm(1 if step.obs["row"] == 0 else 0),
    "memory": remembering,
    "target": lambda: lambda step: {"number": np.float32(0.8) * step.obs["far"][None]},
    "grid": lambda: seeking,
    "catch": lambda: catching,
}


@pytest.mark.parametrize("rung", testing.RUNGS, ids=lambda rung: rung.name)
def test_the_stated_scores_are_those_of_the_best_and_of_random_actions(rung):
    world = rung.environment()
    best = mean_score(world, BEST[rung.name](), episodes=500)
    envs = wb.envs.EnvVector([rung.environment() for _ in range(20)], seed=0)
    chance = np.mean(wb.evaluate.play(wb.evaluate.random_policy(envs, 0), envs, 500))
    spread = rung.optimum - rung.chance
    noise = 0.2 if rung.name == "first" else 1e-6  # its episodes end by chance
    assert best == pytest.approx(rung.optimum, abs=noise)
    assert chance == pytest.approx(rung.chance, abs=0.1 * spread)
    assert rung.chance + 0.6 * spread < rung.needed < rung.optimum


@pytest.mark.parametrize("rung", testing.RUNGS, ids=lambda rung: rung.name)
def test_the_docstring_states_the_scores_of_the_rung(rung):
    if rung.name == "scaled":
        pytest.skip("the scores of another world, scaled")
    stated = re.search(LINE, " ".join(rung.environment.__doc__.split()))
    for name in ("optimum", "needed"):
        assert float(stated[name]) == getattr(rung, name)
    assert float(stated["chance"]) == pytest.approx(rung.chance, abs=0.005)


def test_memory_bounds_who_forgets():
    score = mean_score(testing.Memory(), forgetful, episodes=500)
    assert score == pytest.approx(2.0, abs=0.15)


def test_first_bounds_who_is_never_reset():
    """Half the rows are a row 0, and nothing tells which: pressing is worth as much as waiting."""
    for press in (0, 1):
        score = mean_score(testing.First(), lambda step: {"press": np.asarray(press)})  # noqa: B023
        assert score == pytest.approx(1.0, abs=0.3)


def test_best_single_number_of_target():
    target = testing.Target()
    for number in np.linspace(-1, 1, 9, dtype=np.float32):
        score = mean_score(target, lambda step: {"number": number[None]}, episodes=500)  # noqa: B023
        assert score < 2.55


def equal(rows, others):
    return all(map(torch.equal, pytree.tree_leaves(rows), pytree.tree_leaves(others)))


@pytest.mark.parametrize("make", WORLDS)
def test_an_episode_follows_from_its_seed_and_actions(make):
    actions = np.random.default_rng(0).uniform(-1, 1, (40, action_size(make().action)))

    def lived(seed):
        vector = wb.envs.EnvVector([make(), make()], seed=seed)
        rows = [vector.reset()]
        rows += [vector.step(torch.tensor(a, dtype=torch.float32).expand(2, -1)) for a in actions]
        return rows

    first, again, other = lived(3), lived(3), lived(4)
    assert all(map(equal, first, again))
    assert any(row.is_last.any() for row in first)
    if make not in (testing.Bandit, testing.Delayed):  # nothing is random in these two
        assert not all(map(equal, first, other))


@pytest.mark.parametrize("make", WORLDS)
def test_a_vector_comes_back_to_the_middle_of_an_episode(make):
    vector = wb.envs.EnvVector([make()], seed=0)
    vector.reset()
    action = torch.zeros(1, action_size(make().action))
    vector.step(action)
    saved = vector.state_dict()
    after = vector.step(action)
    vector.load_state_dict(saved)
    assert all(map(torch.equal, vector.step(action).obs.values(), after.obs.values()))
    with pytest.raises(wb.envs.NotRestored, match=r"4 bytes; it has no state of its own: reset"):
        make().set_state(b"four")


def test_ends_and_time_limits():
    """Target is cut, and Grid where nobody arrived; the others end."""
    lengths = {"Bandit": 4, "Delayed": 3, "Memory": 3, "Target": 4, "Grid": 6, "Catch": 7}
    for make in WORLDS:
        world, length = make(), 0
        step = world.reset(1)
        still = {key: np.zeros(space.shape, int) for key, space in world.action.items()}
        while not step.is_last:
            step, length = world.step(still), length + 1
        assert step.is_terminal is (make not in (testing.Target, testing.Grid)), make
        assert length == lengths.get(make.__name__, length), make


def test_catch_can_always_be_caught_and_shows_where():
    for cells, side in ((3, 48), (6, 48), (8, 16), (16, 64)):
        catch = testing.Catch(cells=cells, side=side)
        step = catch.reset(0)
        assert step.obs["image"].shape == (side, side, 1)
        assert (step.obs["image"] == 255).sum() == 2 * (side // cells) ** 2


def test_the_grid_is_a_room_with_walls():
    grid = testing.Grid(cells=2)
    for seed, move in itertools.product(range(6), range(4)):
        step = grid.reset(seed)
        for _ in range(2):
            step = step if step.is_last else grid.step({"move": np.asarray(move)})
        assert set(step.obs["you"].tolist()) <= {0, 1}
    image = testing.Grid(side=48).reset(0).obs["image"]
    assert sorted(np.unique(image, return_counts=True)[1].tolist()) == [144, 144, 48 * 48 - 288]


def test_scaled_changes_rewards_alone():
    plain, scaled = testing.Target(), testing.Scaled(testing.Target(), scale=1e3)
    assert (scaled.observation, scaled.action) == (plain.observation, plain.action)
    scaled.reset(5)
    step, other = plain.reset(5), scaled.reset(5)
    while not step.is_last:
        action = {"number": np.ones(1, np.float32)}
        step, other = plain.step(action), scaled.step(action)
        assert other == step._replace(reward=1e3 * step.reward, obs=other.obs)
        assert other.obs["far"] == step.obs["far"]
    assert scaled.get_state() is None
    with pytest.raises(wb.envs.NotRestored):
        scaled.set_state(b"")
    scaled.close()


def test_by_name_through_gym():
    pytest.importorskip("gymnasium")
    catch = wb.envs.gym("worldblocks.testing:Catch", cells=6, side=96)
    assert catch.observation["image"].shape == (96, 96, 1)
    name = "worldblocks.testing:Grid"
    scaled = wb.envs.gym("worldblocks.testing:Scaled", environment=name, scale=0.1, cells=5)
    assert scaled.environment.cells == 5


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("Bandit", {"arms": 1}, r"Bandit got arms=1; it takes an integer, 2 or more"),
        ("Bandit", {"best": 4}, r"Bandit got best=4; it has the arms 0 … 3"),
        ("Delayed", {"delay": 0.5}, r"Delayed got delay=0.5; it takes an integer, 1 or more"),
        ("First", {"stop": 1}, r"First got stop=1; it takes a probability between 0 and 1"),
        ("Memory", {"steps": 1}, r"Memory got steps=1; it takes an integer, 2 or more"),
        ("Target", {"reach": 2}, r"Target got reach=2; it takes a number above 0 and at most 1"),
        ("Catch", {"side": 50}, r"Catch got side=50 for 8 cells; .* multiple of 8, such as 48"),
        ("Grid", {"cells": 1}, r"Grid got cells=1; it takes an integer, 2 or more"),
        (
            "Scaled",
            {"environment": testing.Bandit(), "scale": 0},
            r"Scaled got scale=0; it takes a finite number above 0",
        ),
        (
            "Scaled",
            {"environment": testing.Bandit(), "scale": 2, "arms": 3},
            r"Scaled got the options {'arms': 3} for an environment that is already built",
        ),
    ],
)
def test_what_cannot_be_built_says_what_can(make, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(testing, make)(**options)


def test_wrong_steps_are_refused():
    bandit, target = testing.Bandit(), testing.Target()
    with pytest.raises(
        ValueError, match=r"Bandit was asked for a step where no episode runs .* cal"
    ):
        bandit.step(arm(0))
    bandit.reset(0)
    target.reset(0)
    for action in (arm(4), arm(0.5), arm([1]), {"arms": np.asarray(0)}):
        with pytest.raises(
            ValueError, match=r"Bandit got the action .*; it takes 'arm', one value"
        ):
            bandit.step(action)
    with pytest.raises(ValueError, match=r"Target got the action .* it takes 'number', one value"):
        target.step({"number": np.array([np.nan], np.float32)})

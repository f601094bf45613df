"""Promises of vectors of environments, which reset by themselves."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldblocks.envs import Step
from worldblocks.spaces import Continuous, Discrete
from worldblocks.testing.promise import Names, Promises, Report, Violation
from worldblocks.testing.promise.compare import cloned, expect, expect_equal
from worldblocks.testing.worlds.base import World

promise = Promises()
COUNT = 3
STEPS = 24


class Scripted(World):
    """An environment that records its calls, with rows that identify themselves.

    The seed determines the length of an episode and its end: terminal or time limit.
    """

    def __init__(self) -> None:
        super().__init__(
            {"row": Continuous((2,)), "count": Discrete(64)},
            {"move": Continuous((2,)), "turn": Discrete(3)},
        )
        self.calls: list[tuple[str, Any]] = []

    def reset(self, seed: int) -> Step:
        """Begin an episode and record the call."""
        self.calls.append(("reset", seed))
        return super().reset(seed)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do an action and record the call."""
        self.calls.append(("step", {key: np.array(value) for key, value in action.items()}))
        return super().step(action)

    def _value(self, action: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(action["move"])

    def _begin(self) -> None:
        self._length = int(self._random.integers(1, 5))
        self._terminal = bool(self._random.integers(2))
        self._number = float(self._random.normal())

    def _observe(self) -> dict[str, np.ndarray]:
        row = np.array([self._number, self._time], np.float32)
        return {"row": row, "count": np.asarray(self._time, np.int64)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = self._time + 1 == self._length
        return 10.0 + float(action.sum()), over, over and self._terminal


class Case:
    """The factory of vectors under test."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def new(self, seed: int = 0) -> tuple[Any, list[Scripted]]:
        """A vector and its environments."""
        worlds = [Scripted() for _ in range(COUNT)]
        return self.make(worlds, seed=seed), worlds

    def played(self, seed: int = 0) -> tuple[list[Any], list[Tensor], list[Scripted]]:
        """The rows of a vector from reset on, the actions between them, the environments."""
        vector, worlds = self.new(seed)
        rows, actions = [cloned(vector.reset())], []
        for t in range(STEPS):
            actions.append(flat_action(t))
            rows.append(cloned(vector.step(actions[-1])))
        return rows, actions, worlds


def flat_action(t: int) -> Tensor:
    """Actions that identify their environment and row."""
    action = torch.zeros(COUNT, 5)  # two for the move, three for the turn
    action[:, 0] = torch.arange(COUNT) / 10 + t / 1000
    action[:, 2] = 1
    return action


def replayed(world: Scripted) -> list[Step]:
    """The rows that an environment returned, by repeating its calls."""
    fresh = Scripted()
    return [fresh.reset(x) if name == "reset" else fresh.step(x) for name, x in world.calls]


@promise(
    "rows-are-the-environments",
    "Each row holds the step of each environment, unchanged.",
    "stacking, and changes to rewards and flags",
)
def rows_are_the_environments(case: Case) -> None:
    rows, _, worlds = case.played()
    for i, world in enumerate(worlds):
        steps = replayed(world)
        what = f"environment {i} was called for {len(steps)} rows, the vector returned {len(rows)}"
        expect(len(steps) == len(rows), what)
        for t, (ours, step) in enumerate(zip(rows, steps, strict=True)):
            for name in ("reward", "is_first", "is_last", "is_terminal"):
                given, expected = getattr(ours, name)[i].item(), getattr(step, name)
                what = f"row {t} of environment {i} has {name} {given}, expected {expected}"
                expect(abs(float(given) - float(expected)) < 1e-5, what)
            for key, value in step.obs.items():
                what = f"row {t} of environment {i} has another {key!r} than its step"
                expect_equal(ours.obs[key][i], torch.from_numpy(value), what)


@promise(
    "resets-in-a-row-of-its-own",
    "The row after is_last is the first row of the next episode, with is_first and reward 0.",
    "auto-reset: it takes a step of its own after the last row",
)
def resets_in_a_row_of_its_own(case: Case) -> None:
    rows, _, _ = case.played()
    expect(bool(rows[0].is_first.all()), "the rows of reset() are not all is_first")
    for t, (before, after) in enumerate(itertools.pairwise(rows)):
        wrong = (before.is_last != after.is_first).nonzero().flatten().tolist()
        what = f"for environments {wrong}, is_last of row {t} is not is_first of row {t + 1}"
        expect(not wrong, what)
        bad = after.reward[after.is_first].ne(0).any()
        expect(not bad, f"a first row has the reward {after.reward.tolist()}")
        count = before.obs["count"] + 1
        expected = torch.where(after.is_first, 0, count)
        what = f"an observation is missing between row {t} and row {t + 1}"
        expect_equal(after.obs["count"], expected, what, allowed=0.0)


@promise(
    "actions-go-home",
    "Each environment gets its own action, and none where it resets.",
    "the order of environments, and the action at a reset",
)
def actions_go_home(case: Case) -> None:
    rows, actions, worlds = case.played()
    for i, world in enumerate(worlds):
        for t, (call, action) in enumerate(zip(world.calls[1:], actions, strict=False)):
            if rows[t].is_last[i]:
                what = f"environment {i} got an action at row {t}, its last"
                expect(call[0] == "reset", what)
                continue
            what = f"environment {i} was reset after row {t}, which is not its last"
            expect(call[0] == "step", what)
            gap = abs(float(call[1]["move"][0]) - action[i, 0].item())
            if gap > 1e-6:
                raise Violation(
                    f"environment {i} was given another action at row {t}", difference=gap
                )


@promise(
    "says-what-led-to-it",
    "prev_action of a row is the action given before it, also at a reset; after reset() zeros.",
    "rows that say which action led to them: that of the call that returned them",
)
def says_what_led_to_it(case: Case) -> None:
    rows, actions, _ = case.played()
    first = torch.zeros_like(actions[0])
    for t, (row, action) in enumerate(zip(rows, [first, *actions], strict=True)):
        what = f"prev_action of row {t} is not the action that led to it"
        expect_equal(row.prev_action, action, what, allowed=0.0)


@promise(
    "seeds-of-their-own",
    "Every episode of every environment has its own seed, derived from that of the vector.",
    "the seed of a reset: it depends on the vector's seed, the environment and the episode",
)
def seeds_of_their_own(case: Case) -> None:
    found = []
    for seed in (0, 0, 1):
        _, _, worlds = case.played(seed)
        found.append([x for world in worlds for name, x in world.calls if name == "reset"])
    expect(len(set(found[0])) == len(found[0]), "two episodes of a vector have the same seed")
    expect(found[0] == found[1], "the same seed of the vector gave other episodes")
    expect(not set(found[0]) & set(found[2]), "another seed of the vector gave the same episodes")


@promise("has-its-own-memory", "Rows do not change in later steps.", "views of buffers")
def has_its_own_memory(case: Case) -> None:
    vector, _ = case.new()
    rows = vector.reset()
    for t in range(8):
        kept, action = cloned(rows), flat_action(t)
        after = vector.step(action)
        what = f"row {t} changed in the next step"
        expect_equal(rows, kept, what, allowed=0.0)
        rows, kept = after, cloned(after)
        action.zero_()
        what = f"row {t + 1} changed with the memory of the action"
        expect_equal(rows, kept, what, allowed=0.0)


@promise.check
def check_vector(
    make: Callable[..., Any],
    *,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a vector of environments with the interface of `worldblocks.envs.EnvVector`.

    Args:
        make: `make(environments, seed=)` returns a vector of the given scripted environments.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make), make, only, skip)

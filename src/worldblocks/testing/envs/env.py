"""Promises of environments."""

import warnings
from collections.abc import Callable

import numpy as np

from worldblocks.envs import Environment, NotRestored, Step
from worldblocks.envs.errors import OutsideSpace
from worldblocks.envs.record import check_step
from worldblocks.spaces import Discrete
from worldblocks.testing.promise import Names, NotApplicable, Promises, Report, Violation
from worldblocks.testing.promise.compare import expect

promise = Promises()
EPISODES = 4


class Case:
    """An environment and the length of its episodes."""

    def __init__(self, make: Callable[[], Environment], limit: int | None, steps: int) -> None:
        self.make, self.limit, self.steps = make, limit, steps
        self.environment = make()
        if hasattr(self.environment, "action_space"):
            raise TypeError(
                f"check_env got {make!r}, which makes a gymnasium.Env; give what the agent plays: "
                f"check_env(lambda: wb.envs.gym(make))"
            )

    def action(self, random: np.random.Generator, ends: bool = False) -> dict[str, np.ndarray]:
        """A random action; `ends` puts continuous ones at their bounds."""
        found: dict[str, np.ndarray] = {}
        for key, space in self.environment.action.items():
            if isinstance(space, Discrete):
                found[key] = np.asarray(random.integers(space.classes, size=space.shape))
            else:
                value = random.uniform(-1, 1, space.shape).astype(np.float32)
                found[key] = np.asarray(np.sign(value) if ends else value, np.float32)
        return found

    def episode(
        self, seed: int, environment: Environment | None = None, policy: int | None = None
    ) -> list[Step]:
        """The rows of an episode with random actions; observations are copied."""
        environment = environment or self.environment
        random = np.random.default_rng(seed if policy is None else policy)
        rows = [copied(environment.reset(seed))]
        while not rows[-1].is_last and len(rows) <= self.steps:
            rows.append(copied(environment.step(self.action(random, ends=len(rows) % 2 == 0))))
        return rows


def copied(step: Step) -> Step:
    """The row with copied observations."""
    return step._replace(obs={key: np.array(value) for key, value in step.obs.items()})


def same(a: Step, b: Step) -> bool:
    """True if two rows are equal."""
    return (
        a[1:] == b[1:]
        and a.obs.keys() == b.obs.keys()
        and all(np.array_equal(a.obs[key], b.obs[key]) for key in a.obs)
    )


def alike(one: list[Step], other: list[Step]) -> bool:
    """True if two episodes are equal."""
    return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))


def flags(step: Step) -> str:
    """The names of the flags that are set."""
    names = [name for name in ("is_first", "is_last", "is_terminal") if getattr(step, name)]
    return " and ".join(names) or "no flag"


@promise(
    "spaces",
    "Observations have the keys, shapes, dtypes and ranges of the space; rewards are finite.",
    "the space of the observation, and casts",
)
def spaces(case: Case) -> None:
    environment = case.make()  # which warns of numbers outside their bounds only once
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideSpace)
        try:
            for seed in range(EPISODES):
                for t, step in enumerate(case.episode(seed, environment)):
                    check_step(f"row {t}", step, environment.observation, step.is_first)
        except (ValueError, OutsideSpace) as error:
            raise Violation(str(error)) from error
    environment.close()


@promise(
    "first-row",
    "The row of `reset` has is_first alone and reward 0; no later row has is_first.",
    "the flags of the reset, and state left over from the last episode",
)
def first_row(case: Case) -> None:
    for seed in range(EPISODES):
        first, *later = case.episode(seed)
        expect(flags(first) == "is_first", f"the row of a reset has {flags(first)}")
        expect(first.reward == 0, f"the row of a reset has the reward {first.reward}")
        wrong = [t for t, step in enumerate(later, 1) if step.is_first]
        expect(not wrong, f"is_first is set on rows {wrong} of an episode")


@promise("ends", "A terminal row is the last row.", "is_terminal without is_last")
def ends(case: Case) -> None:
    for seed in range(EPISODES):
        for t, step in enumerate(case.episode(seed)):
            what = f"row {t} is terminal but the episode continues"
            expect(step.is_last or not step.is_terminal, what)


@promise(
    "time-limit",
    "After `limit` actions an episode is cut: is_last, which alone does not set is_terminal.",
    "terminated and truncated: only the first sets is_terminal",
)
def time_limit(case: Case) -> None:
    if case.limit is None:
        raise NotApplicable("pass limit=, the number of actions after which an episode is cut")
    cut = 0
    for seed in range(20 * EPISODES):
        rows = case.episode(seed)
        actions = len(rows) - 1
        what = f"an episode of seed {seed} has {actions} actions, the limit is {case.limit}"
        expect(actions <= case.limit, what)
        expect(rows[-1].is_last, f"{what}; its last row has {flags(rows[-1])}")
        cut += actions == case.limit and not rows[-1].is_terminal
    what = f"none of {20 * EPISODES} episodes was cut at the limit of {case.limit} without "
    what += "is_terminal"
    expect(cut > 0, what)


@promise(
    "seeded",
    "Seed and actions determine an episode, in the same copy and in a new one.",
    "random numbers that reset does not seed, and state that it does not clear",
)
def seeded_episodes(case: Case) -> None:
    fresh = case.make()
    for seed in (3, 0, 3):
        expected, ours = case.episode(seed), case.episode(seed, fresh)
        case.episode(seed + 1)
        again = case.episode(seed)
        for name, rows in (("in a new copy", ours), ("after another episode", again)):
            pairs = enumerate(zip(expected, rows, strict=False))
            wrong = [t for t, (a, b) in pairs if not same(a, b)]
            what = f"the episode of seed {seed} differs {name}, from row {wrong[:1] or 'end'}"
            expect(len(rows) == len(expected) and not wrong, what)
    fresh.close()


@promise("seeds-differ", "Other seeds give other episodes.", "the seed: is it used?")
def seeds_differ(case: Case) -> None:
    first, *others = (case.episode(seed, policy=0) for seed in range(8))
    what = "eight seeds gave the same episode (skip=['seeds-differ'] if nothing is random)"
    expect(not all(alike(rows, first) for rows in others), what)


@promise("actions-matter", "Other actions lead to other episodes.", "the action at the simulator")
def actions_matter(case: Case) -> None:
    for seed in range(EPISODES):
        one, other = (case.episode(seed, policy=policy) for policy in (1, 2))
        if not alike(one, other):
            return
    raise Violation("other actions led to the same rows in every episode")


@promise(
    "has-its-own-memory",
    "An observation does not change in later steps.",
    "arrays that the simulator overwrites: copy them",
)
def has_its_own_memory(case: Case) -> None:
    random = np.random.default_rng(0)
    step = case.environment.reset(0)
    for t in range(min(case.steps, 20)):
        if step.is_last:
            return
        kept = copied(step)
        after = case.environment.step(case.action(random))
        expect(same(step, kept), f"the observation of row {t} changed in the next step")
        step = after


@promise(
    "restores",
    "A new copy continues exactly after `set_state(get_state())`.",
    "the contents of the state: simulator, random numbers, counters of wrappers",
)
def restores(case: Case) -> None:
    random = np.random.default_rng(0)
    environment, fresh = case.environment, case.make()
    environment.reset(1)
    state = environment.get_state()
    if state is None:
        raise NotApplicable("this environment has no state (get_state returns None)")
    fresh.reset(2)
    try:
        fresh.set_state(state)
    except NotRestored as error:
        raise Violation(f"a new copy rejected the state: {error}") from error
    for t in range(case.steps):
        action = case.action(random)
        ours, expected = fresh.step(action), environment.step(action)
        expect(same(ours, expected), f"the restored copy returned another row {t + 1}")
        if expected.is_last:
            break
    fresh.close()


@promise.check
def check_env(
    make: Callable[[], Environment],
    *,
    limit: int | None = None,
    steps: int = 200,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test an environment by its protocol (`worldblocks.envs.Environment`).

    Args:
        make: returns a new copy, such as `lambda: wb.envs.gym(MyEnv)`.
        limit: the number of actions after which an episode is cut, if there is one.
        steps: maximum number of actions played per episode.
        only, skip: names of promises to test alone, or to leave out. Skip `seeds-differ` for
            environments without randomness.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
        TypeError: `make` returns a `gymnasium.Env`.
    """
    return promise.run(Case(make, limit, steps), make, only, skip)

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_environments import Drift, Saved, Walk

import worldblocks as wb
from worldblocks.envs import Environment, EnvVector, Episode, Step
from worldblocks.spaces import Continuous, Discrete

ACTIONS = torch.randn(40, 3, 7, generator=torch.Generator().manual_seed(0))


def walks(kind=Walk, lengths=(2, 4, 5), seed=11):
    return EnvVector([kind(length) for length in lengths], seed=seed)


def same(one, other):
    pairs = zip((*one.obs.values(), *one[1:]), (*other.obs.values(), *other[1:]), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_rows_follow_the_environments_and_reset_by_themselves():
    vector = walks()
    rows = [vector.reset(), *(vector.step(ACTIONS[t]) for t in range(7))]
    # environment 0 has 2 steps an episode: first, 1, last, first, 1, last …
    first = torch.stack([row.is_first for row in rows]).int().T.tolist()
    last = torch.stack([row.is_last for row in rows]).int().T.tolist()
    assert first == [[1, 0, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 1, 0]]
    assert last == [[0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0]]
    assert not torch.stack([row.is_terminal for row in rows]).any()
    assert rows[0].obs["image"].shape == (3, 3, 5, 1)
    assert rows[0].obs["image"].dtype == torch.uint8
    assert rows[4].obs["image"][:, 0, 0, 0].tolist() == [1, 4, 4]
    assert rows[3].reward[0] == 0  # the reset ignores its action
    # a reward: index of the largest of the four moves, plus half of the second push
    move, push = ACTIONS[0, 1, :4].argmax(), ACTIONS[0, 1, 5]
    torch.testing.assert_close(rows[1].reward[1], move + 0.5 * push)


def test_rows_hold_the_action_that_led_to_them():
    """Zeros after `reset`; at an automatic reset the action that was ignored."""
    vector = walks(lengths=(2, 3, 3))
    rows = vector.reset()
    assert torch.equal(rows.prev_action, torch.zeros(3, 7))
    for t in range(4):
        action = ACTIONS[t].clone()
        vector.send(action)
        action.zero_()  # the memory of the caller
        rows = vector.receive()
        assert torch.equal(rows.prev_action, ACTIONS[t])
    assert rows.is_first.tolist() == [False, True, True]
    assert not vector.reset().prev_action.any()


def test_rows_saved_without_a_previous_action():
    vector = walks()
    vector.reset()
    state = vector.step(ACTIONS[0]) and vector.state_dict()
    assert torch.equal(walks().load_state_dict(state).prev_action, ACTIONS[0])
    del state["rows"]["prev_action"]
    assert not walks().load_state_dict(state).prev_action.any()


def test_finished_episodes_count_actions_and_rewards():
    vector = walks(Saved, (2, 3))
    vector.reset()
    finished = []
    for t in range(8):
        vector.step(ACTIONS[t, :2])
        finished.append(vector.finished)
    assert finished[1] == [Episode(0, 2.0, 2)]
    assert finished[2] == [Episode(1, 3.0, 3)]
    assert finished[3] == []
    assert finished[4] == [Episode(0, 2.0, 2)]
    assert finished[6] == [Episode(1, 3.0, 3)]


def test_episodes_have_seeds_of_their_own():
    both = [Walk(1), Walk(1)]
    vector = EnvVector(both, seed=11)
    vector.reset()
    for t in range(6):
        vector.step(ACTIONS[t, :2])
    seeds = [environment.seeds for environment in both]
    for i in range(2):
        wanted = [np.random.SeedSequence([11, i, k]).generate_state(1)[0] for k in range(4)]
        assert seeds[i] == wanted
    assert len({*seeds[0], *seeds[1]}) == 8


@given(st.lists(st.integers(1, 6), min_size=3, max_size=3), st.integers(0, 20), st.booleans())
def test_a_resumed_vector_continues_exactly(lengths, at, saved):
    kind = Saved if saved else Walk
    vector, copy = walks(kind, lengths), walks(kind, lengths, seed=5)
    row = vector.reset()
    for t in range(at):
        row = vector.step(ACTIONS[t])
    assert same(copy.load_state_dict(vector.state_dict()), row)
    for t in range(at, at + 9):
        assert same(vector.step(ACTIONS[t]), copy.step(ACTIONS[t]))
        assert vector.finished == copy.finished


def test_an_environment_that_is_not_restored_is_marked_last():
    vector, copy = walks(Drift, (2, 6, 7)), walks(Drift, (2, 6, 7))
    vector.reset()
    for t in range(2):
        row = vector.step(ACTIONS[t])
    state = vector.state_dict()
    with pytest.warns(UserWarning, match="it begins a new episode") as said:
        loaded = copy.load_state_dict(state)
    # environment 0 had ended: there is nothing to restore
    assert [str(one.message) for one in said] == [
        f"environment {i} did not re-enact its episode: after 2 actions the observation 'place' "
        "differs; it begins a new episode"
        for i in (1, 2)
    ]
    assert row.is_last.tolist() == [True, False, False]
    assert loaded.is_last.tolist() == [True, True, True]
    assert not loaded.is_terminal.any()
    assert same(loaded._replace(is_last=row.is_last), row)
    after = copy.step(ACTIONS[2])
    assert after.is_first.tolist() == [True, True, True]
    assert copy.finished == []


def test_an_episode_of_another_length_or_reward_is_not_the_same():
    class Poor(Walk):
        def row(self, reward, first=False):
            return super().row(0.0, first)

    vector = walks(lengths=(5, 5, 5))
    vector.reset()
    for t in range(3):
        vector.step(ACTIONS[t])
    others = [Walk(2), Walk(3), Poor(5)]
    with pytest.warns(UserWarning, match="it begins a new episode") as said:
        EnvVector(others, seed=11).load_state_dict(vector.state_dict())
    texts = [str(one.message) for one in said]
    assert "after 3 actions its episode ended early; it begins" in texts[0]
    assert "after 3 actions the episode ended; it begins" in texts[1]
    assert "after 3 actions the reward is 0.0, not " in texts[2]


def test_a_lost_state_warns_and_begins_a_new_episode():
    vector, copy = walks(Saved), walks(Saved)
    vector.reset()
    state = vector.state_dict()
    state["environments"][1] = b"lost"
    with pytest.warns(UserWarning, match=r"environment 1 did not come back .*\(another version\)"):
        rows = copy.load_state_dict(state)
    assert rows.is_last.tolist() == [False, True, False]
    assert copy.step(ACTIONS[0]).is_first.tolist() == [False, True, False]


def test_two_sticky_games_resume_exactly():
    def vector_of_two():
        kwargs = {"sticky": 0.25, "max_frames": 90}
        return EnvVector([wb.envs.atari("boxing", **kwargs) for _ in range(2)], seed=3)

    vector, copy = vector_of_two(), vector_of_two()
    actions = torch.randn(60, 2, 18, generator=torch.Generator().manual_seed(1))
    row = vector.reset()
    for t in range(30):
        row = vector.step(actions[t])
    assert same(copy.load_state_dict(vector.state_dict()), row)
    for t in range(30, 60):
        assert same(vector.step(actions[t]), copy.step(actions[t]))


def test_a_state_is_made_of_plain_things():
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(part) for key, part in value.items())
        if isinstance(value, list):
            return all(plain(part) for part in value)
        return value is None or type(value) in (int, float, bytes, torch.Tensor)

    for kind in (Walk, Saved):
        vector = walks(kind)
        vector.reset()
        vector.step(ACTIONS[0])
        assert plain(vector.state_dict())


def test_close_closes_all():
    both = [Walk(), Walk()]
    EnvVector(both, seed=0).close()
    assert all(environment.closed for environment in both)


def test_the_adapters_are_environments():
    environments: list[Environment] = [Walk(), wb.envs.atari("pong")]
    assert len(environments) == 2


class Broken(Walk):
    """A walk whose rows are changed by `change`."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def row(self, reward, first=False):
        step = super().row(reward, first)
        return step if first else self.change(step)


def with_obs(**changed):
    return lambda step: step._replace(obs={**step.obs, **changed})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            with_obs(place=np.array([0, np.nan], np.float32)),
            r"environment 1 at step 2 gave NaN or inf in 'place' \(nan\), whose space is Cont",
        ),
        (
            lambda step: step._replace(reward=float("inf")),
            "environment 1 at step 2 gave the reward inf; a reward is one finite float32",
        ),
        (lambda step: step._replace(reward=1e39), r"the reward 1e\+39; a reward is one finite"),
        (
            lambda step: step._replace(reward=np.ones(1)),
            r"gave the reward float64\[1\] of 1.0; a reward is one finite float32",
        ),
        (lambda step: step._replace(reward="1"), "gave the reward '1'; a reward is one finite"),
        (lambda step: step._replace(is_last="no"), "gave is_last as 'no'; a flag is True or False"),
        (
            lambda step: step._replace(is_first=True),
            "is_first=True at a step; is_first marks the r",
        ),
        (lambda step: tuple(step), r"a row is a wb.envs.Step, its observation a dict"),
        (lambda step: None, "step 2 gave None; a row is a wb.envs.Step"),
        (lambda step: step._replace(obs=step.obs["place"]), "a row is a wb.envs.Step, its observ"),
        (with_obs(place=[0.0, 1.0]), r"gave 'place' as \[0.0, 1.0\]; its space .* is float32\[2\]"),
        (
            with_obs(imag=0),
            r"gave the observations \['imag', 'image', 'place'\]; its space has \['image', 'place'",
        ),
        (
            with_obs(image=np.zeros((3, 5, 1), np.float32)),
            r"gave 'image' as float32\[3, 5, 1\] from 0.* space Image\(.*\) is uint8\[3, 5, 1\]",
        ),
        (
            with_obs(place=np.zeros(3, np.float32)),
            r"gave 'place' as float32\[3\] from 0.0 .*; its space Continuous\(.*\) is float32\[2\]",
        ),
    ],
)
def test_a_broken_observation_or_reward(change, message):
    fine: list = [lambda step: step, change]
    both = [Broken(one) for one in fine]
    vector = EnvVector(both, seed=0)
    vector.reset()
    both[1].change = fine[0]
    vector.step(ACTIONS[0, :2])
    both[1].change = change
    with pytest.raises(ValueError, match=message):
        vector.step(ACTIONS[1, :2])


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_class_outside_its_space(wrong):
    class Classes(Walk):
        observation: ClassVar = {"n": Discrete(3, (2,))}

        def row(self, reward, first=False):
            n = np.array([2, wrong if not first else 0], np.int64)
            return super().row(reward, first)._replace(obs={"n": n})

    vector = EnvVector([Classes()], seed=0)
    vector.reset()
    with pytest.raises(ValueError, match=r"gave 'n' as int64\[2\] from .*, outside its space Disc"):
        vector.step(ACTIONS[0, :1])


def test_wrong_construction():
    class Other(Walk):
        action: ClassVar = {"move": Discrete(2)}

    with pytest.raises(ValueError, match="EnvVector got no environment; give it one or more"):
        EnvVector([], seed=0)
    with pytest.raises(ValueError, match=r"got seed=-1, timeout=60.0; it takes a seed of 0 or mo"):
        EnvVector([Walk()], seed=-1)
    with pytest.raises(ValueError, match=r"got seed=0, timeout=nan; .* and a timeout above 0 seco"):
        EnvVector([Walk()], seed=0, timeout=float("nan"))
    with pytest.raises(ValueError, match=r"environment 1 has observation .* of one EnvVector have"):
        EnvVector([Walk(), Other()], seed=0)


def test_environments_built_by_a_failing_constructor_are_closed():
    made = []

    def walk():
        made.append(Walk())
        return made[0]

    given = Walk()
    wanted = "environment 2 is 3; give an Environment, or a callable that builds one"
    with pytest.raises(ValueError, match=wanted):
        EnvVector([walk, given, 3], seed=0)
    assert (made[0].closed, given.closed) == (True, False)  # the caller closes what it gave


def test_wrong_calls():
    vector = walks()
    with pytest.raises(ValueError, match=r"has no rows before reset\(\); call reset\(\) first"):
        _ = vector.rows
    with pytest.raises(ValueError, match=r"asked for a step before reset\(\); call reset"):
        vector.step(ACTIONS[0])
    with pytest.raises(ValueError, match=r"no state before reset\(\); call reset"):
        vector.state_dict()
    vector.reset()
    wanted = r"its 3 environments take float32\[3, 7\]"
    with pytest.raises(ValueError, match=rf"got actions int8\[3, 7\]; {wanted}"):
        vector.step(ACTIONS[0].to(torch.int8))
    with pytest.raises(ValueError, match=rf"got actions float32\[2, 7\]; {wanted}"):
        vector.step(ACTIONS[0, :2])
    with pytest.raises(ValueError, match="got an action with NaN or inf; it takes finite numbers"):
        vector.step(ACTIONS[0] / 0)


def test_a_state_of_other_environments():
    vector = walks()
    vector.reset()
    with pytest.raises(ValueError, match=r"rows of .*float32\[3, 2\].*give .*float32\[2, 2\]"):
        walks(lengths=(2, 2)).load_state_dict(vector.state_dict())

    class Other(Walk):
        observation: ClassVar = {"place": Continuous((2,)), "count": Discrete(3)}

    with pytest.raises(ValueError, match=r"asked to continue from rows of .*'count': 'int64\[3\]'"):
        walks(Other).load_state_dict(vector.state_dict())


def test_a_discrete_observation_passes():
    class Counting(Walk):
        observation: ClassVar = {"count": Discrete(9)}

        def row(self, reward, first=False):
            return Step({"count": np.array(self.time)}, reward, first, False, False)

    vector = walks(Counting)
    vector.reset()
    assert vector.step(ACTIONS[0]).obs["count"].tolist() == [1, 1, 1]

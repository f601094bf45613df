"""What blocks are given: adversarial, within what is promised, small when it fails."""

import functools

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import worldblocks as wb
from worldblocks import testing
from worldblocks.spaces import Continuous, Discrete, Image

SPACES = {"image": Image(4, 6, 3), "speed": Continuous((2,)), "gear": Discrete(3, (2,))}
ACTIONS = {"jump": Discrete(3), "arm": Continuous((2,))}
# Not to explain: it traces every line, which takes fifty times as long as the search.
PHASES = (Phase.generate, Phase.shrink)
small = functools.partial(find, settings=settings(max_examples=2000, database=None, phases=PHASES))


@given(testing.trajectories())
def test_flags_fit_together(trajectory):
    first, last, terminal = trajectory.is_first, trajectory.is_last, trajectory.is_terminal
    assert first.shape == last.shape == terminal.shape == (trajectory.batch, trajectory.time)
    assert not (terminal & ~last).any()
    assert first[:, 1:][last[:, :-1]].all(), "the row after a last one is first"


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        (lambda t: t.is_terminal.any(), 1),
        (lambda t: t.is_first[:, 1:].any(), 2),
        (lambda t: t.time > 2 and t.is_last.all(), 3),
    ],
)
def test_a_small_example_is_left(what, rows):
    """Out of up to three elements of six rows; which of the smallest ones is up to chance."""
    found = small(testing.trajectories(), what)
    assert found.time == rows
    assert found.batch <= 2
    assert found.seed <= 1


def test_a_trajectory_is_shown_as_one_reads_it():
    one = testing.Trajectory((True, False), ("A.", "T."), 3)
    shown = "2 elements of 2 rows, is_first XX .X, is_last .. X., is_terminal .. X., seed 3"
    assert repr(one) == shown
    assert repr(testing.Trajectory((False,), (".",), 0)) == "1 element of 1 row, seed 0"


def test_ends_stand_in_every_element_at_once():
    found = small(
        testing.trajectories(batch=(3, 3), time=(4, 4)),
        lambda t: t.is_last[:, 0].all() and t.is_last[:, -1].all() and not t.is_last[:, 1].any(),
    )
    assert found.is_last.int().tolist() == [[1, 0, 0, 1]] * 3


def test_numbers_follow_from_the_seed_and_the_key():
    one = testing.Trajectory((False,), ("..",), 3)
    assert torch.equal(one.normal(4), one.normal(4))
    assert not torch.equal(one.normal(4), one.normal(4, key=1))
    assert one.normal(4, 5).shape == (1, 2, 4, 5)


@given(testing.observations(SPACES, 2, 3))
def test_observations_fit_their_spaces(obs):
    embed = wb.encoders.VectorEncoder({k: SPACES[k] for k in ("speed", "gear")}, units=4)
    assert embed({k: obs[k] for k in ("speed", "gear")}).isfinite().all()
    assert (obs["image"].dtype, obs["image"].shape) == (torch.uint8, (2, 3, 4, 6, 3))


@given(testing.action_spaces().flatmap(lambda s: st.tuples(st.just(s), testing.actions(s, 2, 3))))
def test_actions_fit_their_space(drawn):
    space, action = drawn
    parts = wb.spaces.split_action(space, action)
    assert set(parts) == set(space)
    for key, part in parts.items():
        assert part.shape == (2, 3, *space[key].shape)
        if isinstance(space[key], Continuous):
            assert (part.abs() <= 1).all()


@given(testing.batches(SPACES, ACTIONS))
def test_batches_are_as_replay_gives_them(batch):
    assert isinstance(batch, wb.replay.Batch)
    assert batch.is_last[:, :-1][batch.is_first[:, 1:]].all()
    assert batch.prev_action[batch.is_first].eq(0).all()
    assert batch.reward[batch.is_first].eq(0).all()


@given(testing.parameters(5, 4))
def test_parameters_are_finite_at_any_magnitude(raw):
    assert raw.shape == (5, 4)
    assert raw.isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_magnitudes_reach_both_ends(magnitude):
    for strategy in (testing.parameters(3), testing.vectors(3)):
        found = small(strategy, lambda x: 0.1 < x.abs().max() / magnitude < 10)
        assert found.shape == (3,)


@given(testing.images(Image(4, 6, 3), 2))
def test_images(image):
    assert (image.dtype, image.shape) == (torch.uint8, (2, 4, 6, 3))


def test_carries_are_reached():
    sizes = {"deter": 8, "hidden": 4, "groups": 2, "classes": 3, "blocks": 2}
    rssm = wb.rssm.dreamer_rssm(embed_dim=5, action_dim=2, **sizes)
    carries = testing.carries(rssm, embed_dim=5, action_dim=2, batch=3)
    assert small(carries, lambda carry: True).memory.eq(0).all()
    later = small(carries, lambda carry: carry.memory.ne(0).any())
    assert later.stoch.sum(-1).eq(1).all()

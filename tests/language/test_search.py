"""Reward search: draws, outcomes, heads."""

import pytest
import torch

from worldblocks.envs import Episode
from worldblocks.language import Proposal, RewardSearch, body_menu, sample_features

MENU = body_menu("walker")
PHRASES, SAMPLE = MENU.phrases[:4], sample_features(MENU.ranges)


def search(**options):
    """Four candidates, two environments, three heads."""
    specs = [MENU.spec(phrase) for phrase in PHRASES]
    asked = Proposal("up", "hand", PHRASES, [0.0] * 4, [0.4, 0.3, 0.2, 0.1], specs)
    return RewardSearch(asked, MENU, **{"heads": 3, "envs": 2, "seed": 1, **options})


def test_an_outcome_counts_for_the_candidate_in_play():
    """Environment 1 wins while it plays candidate 0, environment 0 fails with candidate 2."""
    ours = search()
    ours.playing = [2, 0]
    told = ours.end([Episode(1, 3.0, 7), Episode(0, 0.0, 5)])
    assert ours.belief.outcomes == [[1.0], [], [0.0], []]
    assert [one["task"] for one in told] == [PHRASES[0], PHRASES[2]]
    assert [(one["score"], one["length"], one["success"]) for one in told] == [(3, 7, 1), (0, 5, 0)]
    assert ours.belief.probabilities[0] > 0.4
    assert ours.belief.probabilities[2] < 0.2


def texts(spec):
    """What a compiled reward is made of."""
    return [(term.text, weight) for term, weight in spec.terms]


def test_a_candidate_is_drawn_where_an_episode_begins(monkeypatch):
    """Candidates 0 to 2 have the heads 0 to 2; candidate 3 takes that of the one idle longest."""
    ours, draws = search(), iter([1, 2, 3])
    monkeypatch.setattr(ours.belief, "choose", lambda: next(draws))
    assert ours.begin(torch.tensor([True, True])) == []
    assert (ours.playing, ours.heads) == ([1, 2], [1, 2])
    assert ours.begin(torch.tensor([False, False])) == []
    assert ours.playing == [1, 2]
    assert ours.begin(torch.tensor([True, False])) == [0]
    assert (ours.playing, ours.heads) == ([3, 2], [0, 2])
    compiled = [MENU.spec(phrase).compile(SAMPLE) for phrase in PHRASES]
    assert [texts(spec) for spec in ours.specs] == [texts(compiled[k]) for k in (3, 1, 2)]
    assert ours.phrase(0) == PHRASES[3]


@pytest.mark.parametrize(("full_score", "successes"), [(0.0, [0, 0, 1, 1]), (8.0, [0, 0, 0.25, 1])])
def test_success_is_a_share_of_the_full_score_or_any_score(full_score, successes):
    ours = search(full_score=full_score)
    assert [ours.success(score) for score in (-1.0, 0.0, 2.0, 9.0)] == successes


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"envs": 3, "heads": 2}, "3 environments may play for 3 of 4 candidates at once, with 2"),
        ({"fixed": True}, "4 candidates need a head each, with 3 heads: use more heads"),
    ],
)
def test_too_few_heads(options, reason):
    with pytest.raises(ValueError, match=reason):
        search(**options)

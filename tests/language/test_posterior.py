"""The posterior over specs: by hand, by a slow definition, and from a wrong prior."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.language import Returns, SpecPosterior, Successes


def test_successes_by_hand():
    """Beta(1, 1) gives one success 1/2; Beta(1, 19) gives it 1/20, a failure 19/20."""
    evidence = Successes()
    assert evidence.log_odds([], []) == 0
    assert evidence.log_odds([1.0], [1.0]) == pytest.approx(math.log(10))
    assert evidence.log_odds([0.0], [1.0]) == pytest.approx(math.log(0.5 / 0.95))
    # Two failures: 1/3 against 19/20 · 20/21.
    assert evidence.log_odds([0.0, 0.0], [1.0, 1.0]) == pytest.approx(math.log(7 / 19))


def test_returns_by_hand():
    """At the middle both are as likely; one noise above it, by N(1, 2) against N(-1, 2)."""
    evidence = Returns(right=1.0, wrong=-1.0, spread=1.0, noise=1.0)
    assert evidence.log_odds([0.0], [1.0]) == 0
    assert evidence.log_odds([1.0], [1.0]) == pytest.approx(1.0)
    assert evidence.log_odds([1.0, 1.0], [1.0, 1.0]) == pytest.approx(4 / 3)
    assert evidence.log_odds([], []) == 0


outcomes = st.lists(st.integers(0, 1).map(float), max_size=6)


@given(outcomes)
def test_successes_agree_with_one_after_another(outcomes):
    """Pólya's urn: each outcome by the counts before it."""

    def slowly(a, b):
        total = 0.0
        for x in outcomes:
            total += math.log((a if x else b) / (a + b))
            a, b = a + x, b + 1 - x
        return total

    found = Successes().log_odds(outcomes, [1.0] * len(outcomes))
    assert found == pytest.approx(slowly(1.0, 1.0) - slowly(1.0, 19.0), abs=1e-9)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=4))
def test_returns_agree_with_the_joint_density(outcomes):
    """All returns of a spec are normal together: noise² on the diagonal, spread² everywhere."""
    n = len(outcomes)
    cov = 9.0 * np.eye(n) + 4.0 * np.ones((n, n))

    def log_density(mean):
        off = np.array(outcomes) - mean
        return -0.5 * off @ np.linalg.solve(cov, off)

    found = Returns(right=5.0, wrong=1.0, spread=2.0, noise=3.0).log_odds(outcomes, [1.0] * n)
    assert found == pytest.approx(log_density(5.0) - log_density(1.0), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.floats(0, 1), outcomes)
def test_a_posterior_is_a_distribution_and_begins_as_the_prior(prior, floor, outcomes):
    belief = SpecPosterior(prior, floor=floor)
    expected = [(1 - floor) * p / sum(prior) + floor / len(prior) for p in prior]
    assert belief.probabilities == pytest.approx(expected)
    for outcome in outcomes:
        belief.update(0, outcome)
    assert sum(belief.probabilities) == pytest.approx(1)


def test_equal_evidence_leaves_the_odds():
    belief = SpecPosterior([0.8, 0.2], floor=0.0)
    for candidate in (0, 1):
        belief.update(candidate, 0.0)
    assert belief.probabilities == pytest.approx([0.8, 0.2])


def test_old_outcomes_are_forgotten():
    """A policy that had not learned yet failed with the right spec: half as much each time."""
    belief = SpecPosterior([0.5, 0.5], keep=0.5, floor=0.0)
    for outcome in (0.0, 0.0, 1.0):
        belief.update(0, outcome)
    weighted = Successes().log_odds([0.0, 0.0, 1.0], [0.25, 0.5, 1.0])
    assert belief.probabilities[0] == pytest.approx(1 / (1 + math.exp(-weighted)))


def played(prior, right, episodes, seed):
    """Success .8 with the right spec and .05 with another."""
    belief, chance = SpecPosterior(prior, seed=seed), np.random.default_rng(seed + 1000)
    won = 0
    for _ in range(episodes):
        candidate = belief.choose()
        outcome = chance.random() < (0.8 if candidate == right else 0.05)
        belief.update(candidate, float(outcome))
        won += outcome
    return belief.best == right, won / episodes


def test_evidence_repairs_a_wrong_prior_and_a_good_one_helps():
    """Ten candidates, twelve episodes, forty times; the prior prefers a wrong one, or the right."""
    rest = [0.05] * 8
    priors = {"wrong": [0.5, 0.1, *rest], "right": [0.1, 0.5, *rest], "none": [0.1] * 10}
    found = {
        name: np.mean([played(prior, 1, 12, seed) for seed in range(40)], 0)
        for name, prior in priors.items()
    }
    assert found["right"][1] > found["none"][1] > 0.15
    assert found["right"][0] > 0.9
    assert found["wrong"][0] > 0.5, "from none at first"


def test_choices_follow_the_probabilities():
    belief = SpecPosterior([0.7, 0.2, 0.1], floor=0.0, seed=3)
    counts = np.bincount([belief.choose() for _ in range(2000)]) / 2000
    assert counts.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.04)


def test_a_restored_posterior_continues_the_same():
    one, other = SpecPosterior([0.6, 0.4]), SpecPosterior([0.6, 0.4], seed=9)
    for outcome in (0.0, 1.0, 1.0):
        one.update(one.choose(), outcome)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.probabilities == one.probabilities
    assert [other.choose() for _ in range(20)] == [one.choose() for _ in range(20)]
    with pytest.raises(ValueError, match="over 3 candidates cannot load one over 2"):
        SpecPosterior([1, 1, 1]).load_state_dict(one.state_dict())


@pytest.mark.parametrize("prior", [[], [-0.1, 1.1], [0.0, 0.0], [math.nan, 1.0], [math.inf]])
def test_invalid_priors(prior):
    with pytest.raises(ValueError, match="a prior has one or more probabilities, none below 0"):
        SpecPosterior(prior)


def test_invalid_arguments():
    belief = SpecPosterior([0.5, 0.5])
    with pytest.raises(ValueError, match="there are candidates 0 to 1, got 2"):
        belief.update(2, 1.0)
    with pytest.raises(ValueError, match="an outcome is finite, got nan"):
        belief.update(0, math.nan)
    with pytest.raises(ValueError, match=r"a success is 0 to 1, got 3.0; Returns takes others"):
        belief.update(0, 3.0)
    assert belief.outcomes == [[], []]
    with pytest.raises(ValueError, match="keep is above 0, floor 0 or more"):
        SpecPosterior([1.0], keep=0.0)
    with pytest.raises(ValueError, match="both numbers of a Beta are above 0"):
        Successes(right=(0.0, 1.0))
    with pytest.raises(ValueError, match="a noise above 0 and right above wrong"):
        Returns(right=0.0, wrong=1.0, spread=1.0, noise=1.0)

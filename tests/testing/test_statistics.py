"""The tests of samples against SciPy, and how often they are wrong."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from worldblocks.testing.promise import Violation
from worldblocks.testing.promise.statistics import (
    ALARM,
    chi_squared,
    expect_mean,
    expect_same_moments,
    kolmogorov_smirnov,
)


def test_chi_squared_is_that_of_scipy():
    counts, expected = np.array([240.0, 271, 230, 259]), np.array([250.0, 260, 240, 250])
    told = stats.chisquare(counts, expected).pvalue
    assert chi_squared(*map(torch.tensor, (counts, expected))) == pytest.approx(told)


def test_few_are_joined():
    """Bins of 5, 7 and 9 make one of 21; a single bin of 4 beside others is left out."""
    counts, expected = torch.tensor([100.0, 4, 8, 10]), torch.tensor([101.0, 5, 7, 9])
    told = stats.chisquare([100, 22], [101, 21]).pvalue
    assert chi_squared(counts, expected) == pytest.approx(told)
    assert chi_squared(torch.tensor([96.0, 0]), torch.tensor([96.0, 4])) == 1.0
    assert chi_squared(torch.tensor([96.0, 90]), torch.tensor([182.0, 4])) == 0.0


def test_kolmogorov_smirnov_is_that_of_scipy():
    samples = torch.from_numpy(np.random.default_rng(0).normal(size=500))
    gap, allowed = kolmogorov_smirnov(samples, torch.special.ndtr)
    assert gap == pytest.approx(stats.kstest(samples.numpy(), "norm").statistic)
    assert allowed == pytest.approx(math.sqrt(math.log(2e6) / 1000))
    assert stats.kstwo.sf(allowed, 500) <= ALARM


def test_false_alarms_are_as_rare_as_it_says():
    """At a bound of 1 in 20 about 100 of 2 000 right samples fail."""
    random = np.random.default_rng(1)
    bins = torch.full((6,), 100.0)
    chances = [
        chi_squared(torch.from_numpy(random.multinomial(600, [1 / 6] * 6)).double(), bins.double())
        for _ in range(2000)
    ]
    assert 60 < sum(chance < 0.05 for chance in chances) < 140


def test_a_small_error_is_seen():
    """A normal whose standard deviation is off by a fifth, 4 000 samples."""
    samples = 1.2 * torch.from_numpy(np.random.default_rng(0).normal(size=4000))
    gap, allowed = kolmogorov_smirnov(samples, torch.special.ndtr)
    assert gap > allowed


def test_means_and_moments():
    samples = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, 2)))
    expect_mean(samples, torch.zeros(2), "fine")
    message = "off: the mean of 4000 samples is .*, expected 0.2"
    with pytest.raises(Violation, match=message):
        expect_mean(samples, torch.tensor([0.0, 0.2]), "off")
    expect_same_moments(samples, samples.flip(0), "fine")
    with pytest.raises(Violation, match="off: mean square"):
        expect_same_moments(samples, 1.3 * samples, "off")

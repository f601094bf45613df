"""Promises about samples."""

import torch

from worldblocks.distributions import modes
from worldblocks.testing.distributions.case import Case, promise
from worldblocks.testing.distributions.chance import continuous_part, discrete_part, draw, numbers
from worldblocks.testing.promise import NotApplicable, Violation
from worldblocks.testing.promise.compare import expect, expect_equal, gradients, seeded, weighted
from worldblocks.testing.promise.statistics import expect_mean


@promise(
    "samples-match-log-prob",
    "Samples match the log-probability: χ² for discrete values, Kolmogorov-Smirnov for real "
    "numbers.",
    "a difference of sample() and log_prob(): unimix, squashing, variance or standard deviation",
)
def samples_match_log_prob(case: Case) -> None:
    case.sampled()
    for seed in range(2):
        raw = case.raw(seed, 1)
        drawn = draw(case.make, raw)
        discrete_part(case.make, raw, drawn)
        continuous_part(case.make, raw, drawn)


@promise(
    "entropy-matches-samples",
    "The entropy is the mean of -log_prob over samples.",
    "sign and sum of the entropy, and constants of the log-probability",
)
def entropy_matches_samples(case: Case) -> None:
    case.has("entropy")
    raw = case.raw(0, 1)
    drawn = draw(case.make, raw)
    many = case.make(raw.expand(len(drawn), -1))
    surprise = -many.log_prob(drawn)[:, None]
    expect_mean(surprise, many.entropy()[:1], "the entropy does not match the samples")


@promise("mean-matches-samples", "The mean is the mean of the samples.", "mean and mode exchanged")
def mean_matches_samples(case: Case) -> None:
    case.sampled()
    raw = case.raw(0, 1)
    drawn = numbers(draw(case.make, raw))
    expect_mean(drawn, case.make(raw).mean.reshape(-1), "the mean does not match the samples")


@promise(
    "mode-is-most-probable", "No sample has a higher probability than the mode.", "mode and mean"
)
def mode_is_most_probable(case: Case) -> None:
    case.has("mode")
    raw = case.raw(0, 1)
    drawn = draw(case.make, raw, 500)
    many = case.make(raw.expand(len(drawn), -1))
    mode, drawn = many.log_prob(many.mode), many.log_prob(drawn)
    known = numbers(draw(case.make, raw, 500)).unique(dim=0)
    value = case.make(raw).mode.reshape(1, -1)
    finite = len(known) < 100
    possible = not finite or bool((known == value).all(1).any())
    expect(possible, f"the mode {value.tolist()} is never drawn")
    gap = (drawn - mode).max().item()
    if gap > 1e-4:
        raise Violation(
            "a sample has a higher probability than the mode", difference=gap, allowed=1e-4
        )


@promise(
    "one-door",
    "Inside `modes()` a sample is the mode, or the mean where there is no mode.",
    "sample(): does it call wants_mode()?",
)
def one_door(case: Case) -> None:
    case.sampled()
    output = case.make(case.raw())
    expected = getattr(output, "mode" if hasattr(type(output), "mode") else "mean")
    with modes():
        expect_equal(output.sample(), expected, "a sample inside modes() is not the mode")


@promise("noise-of-its-own", "Equal elements draw different samples.", "the shape of the noise")
def noise_of_its_own(case: Case) -> None:
    case.sampled()
    with seeded():
        drawn = case.make(torch.zeros(64, 2, case.size)).sample()
    for axis, name in ((0, "elements"), (1, "rows")):
        alike = bool((drawn == drawn.select(axis, 0).unsqueeze(axis)).all())
        expect(not alike, f"{name} with equal parameters drew equal samples")


@promise(
    "samples-have-gradients",
    "Samples have a gradient: straight-through or reparametrised.",
    "detach() and no_grad() in sample()",
)
def samples_have_gradients(case: Case) -> None:
    case.sampled()
    if not case.pathwise:
        raise NotApplicable("pathwise=False: samples have no gradient")
    raw = case.raw().requires_grad_()
    with seeded():
        drawn = case.make(raw).sample()
    expect(drawn.requires_grad, "a sample has no gradient")
    (found,) = gradients(weighted([drawn]), [raw])
    expect(bool(found.ne(0).any(-1).all()), "the sample of an element has no gradient")

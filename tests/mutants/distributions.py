"""Faults of distributions; each factory takes six raw numbers, `raw: batch time 6`."""

import torch

from worldblocks import transforms
from worldblocks.distributions import (
    MSE,
    Bernoulli,
    BoundedNormal,
    ImageMSE,
    Joint,
    Normal,
    OneHot,
    TwoHot,
)

from .mutant import mutant

BINS = torch.linspace(-3, 3, 6)


def halves(raw):
    return raw[..., :3], raw[..., 3:]


def spread(raw):
    """A positive number for each raw one, at any magnitude."""
    return torch.nn.functional.softplus(raw).clamp(1e-12, 1e12)


def normal(raw, kind=Normal):
    mean, std = halves(raw)
    return kind(mean, spread(std), event=1)


def grouped(raw, kind=OneHot, unimix=0.2):
    return kind(raw.unflatten(-1, (2, 3)), unimix=unimix, event=1)


def joint(raw, kind=Joint):
    arm = BoundedNormal(raw[..., 0:2], raw[..., 2:4], event=1)
    return kind({"arm": arm, "jump": OneHot(raw[..., 4:])})


class EntropyNegativeOutput(Normal):
    def entropy(self):
        return -super().entropy()


@mutant("distribution", "the entropy has the wrong sign")
def entropy_negative(raw):
    return normal(raw, EntropyNegativeOutput)


class EntropyAveragedOutput(OneHot):
    def entropy(self):
        return super().entropy() / self.probs.shape[-2]


@mutant("distribution", "the entropy is that of one entry of the event, not of all")
def entropy_averaged(raw):
    return grouped(raw, EntropyAveragedOutput)


class TanhWithoutItsCorrectionOutput(Normal):
    def sample(self, noise=None):
        return super().sample(noise).tanh()

    def log_prob(self, x):
        return super().log_prob(x.clamp(-1 + 1e-6, 1 - 1e-6).atanh())


@mutant("distribution", "a squashed sample keeps the log-probability of the unsquashed one")
def tanh_without_its_correction(raw):
    return normal(raw, TanhWithoutItsCorrectionOutput)


class VarianceForDeviationOutput(Normal):
    def log_prob(self, x):
        return Normal(self.mean, self.std.square(), event=self.event).log_prob(x)


@mutant("distribution", "the log-probability takes the variance for the deviation")
def variance_for_deviation(raw):
    return normal(raw, VarianceForDeviationOutput)


class DeviationIgnoredInSamplingOutput(Normal):
    def sample(self, noise=None):
        return self.mean + 0 * self.std + torch.randn_like(self.mean)


@mutant("distribution", "samples lie around the mean with a deviation of 1, whatever was asked")
def deviation_ignored_in_sampling(raw):
    return normal(raw, DeviationIgnoredInSamplingOutput)


class ReparameterisationForgottenOutput(Normal):
    def sample(self, noise=None):
        return super().sample(noise).detach()


@mutant("distribution", "the sample of a normal has no gradient")
def reparameterisation_forgotten(raw):
    return normal(raw, ReparameterisationForgottenOutput)


class ModeAndMeanSwappedOutput(Bernoulli):
    mean = property(lambda self: Bernoulli.mode.fget(self))
    mode = property(lambda self: Bernoulli.mean.fget(self))


@mutant("distribution", "mean and mode have changed places")
def mode_and_mean_swapped(raw):
    return ModeAndMeanSwappedOutput(raw, event=1)


class UnimixForgottenInOnePlaceOutput(OneHot):
    def sample(self, noise=None):
        return OneHot(self._raw, event=self.event).sample(noise)


@mutant("distribution", "samples are drawn without unimix, log-probabilities have it")
def unimix_forgotten_in_one_place(raw):
    return grouped(raw, UnimixForgottenInOnePlaceOutput)


class UnimixForgottenInLogProbOutput(OneHot):
    @property
    def logits(self):
        return self._raw.log_softmax(-1)


@mutant("distribution", "the log-probability has no unimix, samples have it")
def unimix_forgotten_in_log_prob(raw):
    return grouped(raw, UnimixForgottenInLogProbOutput)


class OneHotWithoutGradientOutput(OneHot):
    def sample(self, noise=None):
        return super().sample(noise).detach()


@mutant("distribution", "one-hot samples have no straight-through gradient")
def one_hot_without_gradient(raw):
    return grouped(raw, OneHotWithoutGradientOutput)


class SoftmaxOverTheWrongAxisOutput(OneHot):
    @property
    def probs(self):
        return self._raw.softmax(-2)

    @property
    def logits(self):
        return self._raw.log_softmax(-2)


@mutant("distribution", "the class axis is taken for the group axis")
def softmax_over_the_wrong_axis(raw):
    return grouped(raw, SoftmaxOverTheWrongAxisOutput, 0.0)


class TwoHotInTheWrongSpaceOutput(TwoHot):
    def log_prob(self, x):
        return super().log_prob(transforms.symlog(x))


@mutant("distribution", "the number is encoded in symlog space, the bins are of raw numbers")
def two_hot_in_the_wrong_space(raw):
    return TwoHotInTheWrongSpaceOutput(raw, BINS)


class TwoHotWeightsSwappedOutput(TwoHot):
    def log_prob(self, x):
        below, weight = transforms.two_hot_indices(x.detach(), self.bins)
        pair = self.logits.gather(-1, torch.stack([below, below + 1], -1))
        return weight * pair[..., 0] + (1 - weight) * pair[..., 1]


@mutant("distribution", "the two weights of a two-hot have changed places")
def two_hot_weights_swapped(raw):
    return TwoHotWeightsSwappedOutput(raw, BINS)


class PartsInAnotherOrderOutput(Joint):
    def log_prob(self, x):
        return super().log_prob(x.roll(2, -1))


@mutant("distribution", "the parts of a joint action are read in another order than written")
def parts_in_another_order(raw):
    return joint(raw, PartsInAnotherOrderOutput)


class PartLeftOutOfTheEntropyOutput(Joint):
    def entropy(self):
        return self.parts["arm"].entropy()


@mutant("distribution", "the entropy of a joint action leaves out its second part")
def part_left_out_of_the_entropy(raw):
    return joint(raw, PartLeftOutOfTheEntropyOutput)


class LossAveragedOverTheEventOutput(Normal):
    def nll(self, target):
        return super().nll(target) / target.shape[-1]


@mutant("distribution", "the loss is averaged over the event, the log-probability summed")
def loss_averaged_over_the_event(raw):
    return normal(raw, LossAveragedOverTheEventOutput)


class TargetsBroadcastOutput(Normal):
    def log_prob(self, x):
        scaled = (x - self.mean) / self.std
        return (-0.5 * scaled.square() - self.std.log() - 0.9189385).sum(-1)


@mutant("distribution", "a target of another shape broadcasts without a word")
def targets_broadcast(raw):
    return normal(raw, TargetsBroadcastOutput)


class TargetTrainedOutput(Normal):
    def nll(self, target):
        return -self.log_prob(target)


@mutant("distribution", "the loss trains its own target")
def target_trained(raw):
    return normal(raw, TargetTrainedOutput)


class SoftmaxOverflowsOutput(OneHot):
    @property
    def probs(self):
        p = self._raw.exp()
        return p / p.sum(-1, keepdim=True)

    @property
    def logits(self):
        return self.probs.log()


@mutant("distribution", "probabilities by exp(x) / sum(exp(x)), which overflows")
def softmax_overflows(raw):
    return grouped(raw, SoftmaxOverflowsOutput, 0.0)


class ModesIgnoredOutput(Normal):
    def sample(self, noise=None):
        return self.mean + self.std * torch.randn_like(self.mean)


@mutant("distribution", "modes() does not reach this distribution: its samples stay random")
def modes_ignored(raw):
    return normal(raw, ModesIgnoredOutput)


class SliceOfOtherRowsOutput(Normal):
    def __getitem__(self, index):
        new = super().__getitem__(index)
        new.std = self.std[tuple(slice(0, n) for n in new.std.shape)]
        return new


@mutant("distribution", "a slice keeps the deviations of the first rows")
def slice_of_other_rows(raw):
    return normal(raw, SliceOfOtherRowsOutput)


class LogProbRoundedOutput(Normal):
    def log_prob(self, x):
        scaled = ((x - self.mean) / self.std).bfloat16()
        density = -0.5 * scaled.square() - self.std.bfloat16().log() - 0.9189385
        return density.sum(-1).float()


@mutant("distribution", "the log-probability is computed in bfloat16")
def log_prob_rounded(raw):
    return normal(raw, LogProbRoundedOutput)


class NoiseSharedOutput(Normal):
    def sample(self, noise=None):
        return self.mean + self.std * torch.randn(self.mean.shape[-1])


@mutant("distribution", "every element of the batch draws with the same noise")
def noise_shared(raw):
    return normal(raw, NoiseSharedOutput)


class ImageScaledTwiceInTheLossOutput(ImageMSE):
    def nll(self, target):
        return MSE.nll(self, target.float() / 255 / 255)


@mutant("regression", "pixels of the target are scaled to [0, 1] twice")
def image_scaled_twice_in_the_loss(raw):
    return ImageScaledTwiceInTheLossOutput(raw.sigmoid().reshape(*raw.shape[:-1], 2, 3, 1))


class ImageNotScaledInTheLossOutput(ImageMSE):
    def nll(self, target):
        return MSE.nll(self, target.float())


@mutant("regression", "pixels of the target are not scaled")
def image_not_scaled_in_the_loss(raw):
    return ImageNotScaledInTheLossOutput(raw.sigmoid().reshape(*raw.shape[:-1], 2, 3, 1))


class TargetRolledOutput(ImageMSE):
    def nll(self, target):
        return MSE.nll(self, target.roll(1, -2).float() / 255)


@mutant("regression", "the mean is compared with itself one entry further")
def target_rolled(raw):
    return TargetRolledOutput(raw.sigmoid().reshape(*raw.shape[:-1], 2, 3, 1))


class RegressionAveragesTheBatchOutput(ImageMSE):
    def nll(self, target):
        loss = ImageMSE.nll(self, target)
        return loss.mean().expand(loss.shape)


@mutant("regression", "the error of the whole batch is given to every element")
def regression_averages_the_batch(raw):
    return RegressionAveragesTheBatchOutput(raw.sigmoid().reshape(*raw.shape[:-1], 2, 3, 1))

"""The checks of `worldblocks.testing` on our own blocks: one line for each block or variant.

A line is `name: (check, what it takes, options)`; the name begins with the public names it covers,
which stand behind their module, joined by "+".
"""

import functools
import tempfile

import torch
from torch import nn

import worldblocks as wb
from mutants import dynamics as sizes
from mutants import environments, perception, subjects
from mutants.distributions import BINS, grouped, joint, normal
from worldblocks import distributions as dists
from worldblocks import testing
from worldblocks.spaces import Continuous, Discrete
from worldblocks.testing.promise.compare import perturbed

FEATURE = perception.FEATURE
SPACES = perception.SPACES
VECTORS = {key: space for key, space in SPACES.items() if key != "image"}
BOARD = {"board": wb.spaces.Grid(5, 3, channels=2, classes=3)}
PICTURE = {"image": SPACES["image"]}
ACTIONS = {"jump": Discrete(3), "arm": Continuous((2,))}
STATE = perception.STATE
TRAINED = perturbed(wb.transforms.LearnableSymlog)  # one that is not symlog


SOME = 0.25  # of the examples, where other parts are the same
GRU = {key: x for key, x in sizes.SIZES.items() if key != "blocks"}
GAUSSIAN = {"deter": 12, "hidden": 6, "stoch": 5}


def rssm(kind=wb.rssm.dreamer_rssm, numbers=sizes.SIZES, *, share=1.0, **options):
    """A small RSSM and how it is tested: on a share of the examples."""
    make = functools.partial(
        kind, embed_dim=sizes.EMBED, action_dim=sizes.ACTION, **numbers, **options
    )
    return testing.check_dynamics, make, dynamics_options(subjects.rssm_prior) | {"share": share}


def dynamics_options(prior):
    return {
        "embed_dim": sizes.EMBED,
        "action_dim": sizes.ACTION,
        "prior": prior,
        "latent": lambda state: state.stoch,
    }


def kl(distribution, *size):
    return testing.check_kl, wb.losses.balanced_kl, {"distribution": distribution, "size": size}


def gaussian(raw):
    """Of raw numbers up to 1000: the KL of means at 1e30 is beyond float32."""
    mean, raw_std = raw.clamp(-1e3, 1e3).chunk(2, -1)
    return dists.Normal(mean, torch.nn.functional.softplus(raw_std) + 0.1, event=1)


def transformed(raw):
    return normal(raw, functools.partial(dists.TransformedNormal, transform=TRAINED))


def returns(estimate, definition=subjects.lambda_definition, lam=0.9):
    """An estimator by one λ, and 0 where an episode is cut."""

    def estimator(reward, discount, value, cut):
        return estimate(reward, discount, value, lam * (~cut).to(value.dtype))

    return testing.check_return, estimator, {"definition": definition}


def over_baseline(estimate):
    """What is given over the value of the row before; policies are equal."""

    def estimator(reward, discount, value, lam):
        before = torch.cat([torch.zeros_like(value[:, :1]), value[:, :-1]], 1)
        return estimate(reward, discount, value, before, lam)

    return returns(estimator)


def gae(reward, discount, value, before, lam):
    return before + wb.returns.gae(reward, discount, value, before, lam)


def vtrace(reward, discount, value, before, lam):
    return wb.returns.vtrace(reward, discount, value, before, torch.zeros_like(value), lam).value


def retrace(reward, discount, value, before, lam):
    return wb.returns.retrace(reward, discount, value, before, torch.zeros_like(value), lam)


def three_steps(reward, discount, value, lam):
    return wb.returns.n_step_return(reward, discount, value, 3, lam)


def discounted(reward, discount, value):
    return wb.returns.discounted_return(reward, discount, value[:, -1])


def distribution(make, **options):
    return testing.check_distribution, make, {"size": 6, **options}


def image(kind):
    """An image of six pixels."""

    def make(raw):
        shaped = raw.reshape(*raw.shape[:-1], 2, 3, 1)
        return kind(shaped if issubclass(kind, dists.SigmoidImageMSE) else shaped.sigmoid())

    return distribution(make, target=subjects.pixels)


def regression(kind, read):
    return distribution(lambda raw: kind(raw, event=1), target=read)


def head(kind, target, *, read=lambda output: output.mean, **options):
    make = functools.partial(kind, units=16, layers=1, **options)
    make = functools.partial(make, FEATURE)
    return testing.check_head, make, {"feature_dim": FEATURE, "target": target, "read": read}


def numbers(batch):
    return 300 * torch.linspace(-1, 1, batch + 1)[1:]


def shares(batch):
    return torch.linspace(0.1, 0.9, batch)


def one_hots(batch):
    return torch.eye(4)[torch.arange(2 * batch).view(batch, 2) % 4]


def vectors(batch):
    return torch.linspace(-0.8, 0.8, 3 * batch).view(batch, 3)


def moves(batch):
    return torch.cat([vectors(batch)[:, :2], torch.eye(3)[torch.arange(batch) % 3]], -1)


def optimizer(agc):
    make = functools.partial(wb.optim.LaProp, lr=0.1, betas=(0.9, 0.99), agc=agc, warmup=4)
    define = functools.partial(subjects.laprop_definition, agc=agc or 1e9)
    return testing.check_optimizer, make, {"definition": define}


def replay(storage):
    return testing.check_replay, functools.partial(wb.replay.SequenceReplay, storage=storage), {}


def encoder(make, spaces):
    return testing.check_encoder, make, {"spaces": spaces}


def decoder(make, spaces):
    return testing.check_decoder, make, {"spaces": spaces, "state": subjects.decoder_state}


def decoders(spaces):
    return wb.decoders.dreamer_decoder(spaces, **STATE, depth=2, units=10)


class Seer(nn.Module):
    """All that a `GaussianEncoder` says of an image: its embedding and the deviations."""

    def __init__(self):
        super().__init__()
        self.inner = wb.encoders.GaussianEncoder(channels=3, size=48, latent=5, depth=2)
        self.embed_dim = 2 * self.inner.embed_dim

    def forward(self, obs):
        return torch.cat([self.inner(obs["image"]), self.inner.posterior(obs["image"]).std], -1)


class Painter(nn.Module):
    """A `GaussianDecoder` as a decoder of one key."""

    def __init__(self, output):
        super().__init__()
        self.inner = wb.decoders.GaussianDecoder(
            latent=5, channels=3, size=48, depth=2, output=output
        )

    def forward(self, latent):
        return wb.decoders.Decoded({"image": self.inner(latent)})


class Padding(nn.Module):
    """A `PaddedActor` of a world as wide as its task: its own policy, and nothing behind it."""

    def __init__(self, feature_dim, **options):
        super().__init__()
        self.inner = wb.tasks.PaddedActor(
            wb.heads.ActorHead(feature_dim, ACTIONS, **options), width=5
        )

    def forward(self, feature):
        return self.inner(feature)


def gaussian_decoder(output):
    options = {"spaces": PICTURE, "state": lambda *batch: torch.randn(*batch, 5)}
    return testing.check_decoder, functools.partial(Painter, output), options


def world(kind, **options):
    return testing.check_env, kind, options


def cartpole():
    return wb.envs.gym("CartPole-v1")


def padded_walk():
    return wb.tasks.Padded(environments.Walk, environments.Walk().observation)


HASHED = {"skip": ["seeds-differ"]}  # nothing is drawn in these
SUITES = {
    "rssm.RSSM+dreamer_rssm+BlockGRU+CategoricalLatent+Carry+Packed+State+rollout+imagine": rssm(),
    "rssm.RSSM deep": rssm(share=SOME, absolute=True, core_layers=2, posterior_layers=2),
    "rssm.RSSM recompute": rssm(share=SOME, recompute=2),
    "rssm.gru_rssm+GRU": rssm(wb.rssm.gru_rssm, GRU, share=SOME),
    "rssm.gru_rssm absolute": rssm(wb.rssm.gru_rssm, GRU, share=SOME, absolute=True),
    "rssm.gaussian_rssm+GaussianLatent": rssm(wb.rssm.gaussian_rssm, GAUSSIAN, share=SOME),
    "rssm.gaussian_rssm absolute": rssm(wb.rssm.gaussian_rssm, GAUSSIAN, share=SOME, absolute=True),
    "losses.balanced_kl+categorical_kl": kl(subjects.categorical, 3, 4),
    "losses.balanced_kl of normals": kl(gaussian, 6),
    "returns.lambda_return": returns(wb.returns.lambda_return),
    "returns.n_step_return": returns(three_steps, subjects.three_steps_definition, lam=1.0),
    "returns.gae": over_baseline(gae),
    "returns.vtrace+VTrace": over_baseline(vtrace),
    "returns.retrace": over_baseline(retrace),
    "returns.discounted_return": (
        testing.check_return,
        discounted,
        {"definition": subjects.discounted_definition, "cuts": False},
    ),
    "distributions.Normal": distribution(normal),
    "distributions.BoundedNormal": distribution(
        lambda raw: dists.BoundedNormal(raw[..., :3], raw[..., 3:], event=1)
    ),
    "distributions.OneHot+mix_uniform+softmax+inverse_cdf+modes+wants_mode": distribution(grouped),
    "distributions.OneHot plain": distribution(functools.partial(grouped, unimix=0.0)),
    "distributions.TransformedNormal": distribution(
        transformed,
        skip=["mean-matches-samples"],  # its mean is the median
    ),
    "distributions.Joint": distribution(joint),
    "distributions.Bernoulli": distribution(
        lambda raw: dists.Bernoulli(raw, event=1), pathwise=False
    ),
    "distributions.TwoHot": distribution(lambda raw: dists.TwoHot(raw, BINS), pathwise=False),
    "distributions.MSE": regression(dists.MSE, lambda output: output.mean),
    "distributions.SymlogMSE": regression(
        dists.SymlogMSE, lambda output: wb.transforms.symexp(output.mean.clamp(-80, 80))
    ),
    "distributions.ImageMSE": image(dists.ImageMSE),
    "distributions.SigmoidImageMSE": image(dists.SigmoidImageMSE),
    "distributions.SigmoidImageL1": image(dists.SigmoidImageL1),
    "normalize.PercentileScale": (
        subjects.check_percentiles,
        wb.normalize.PercentileScale,
        {},
    ),
    "normalize.RunningMoments": (subjects.check_moments, wb.normalize.RunningMoments, {}),
    "ema.SlowCopy": (subjects.check_slow, wb.ema.SlowCopy, {}),
    "optim.LaProp+adaptive_gradient_clip+dreamer_optimizer": optimizer(0.3),
    "optim.LaProp unclipped": optimizer(0.0),
    "replay.SequenceReplay+Batch+Memory+OnlineFirst+Uniform": replay(wb.replay.Memory()),
    "replay.MemoryMapped": replay(wb.replay.MemoryMapped(tempfile.gettempdir())),
    "replay.OnDevice": replay(wb.replay.OnDevice("cpu")),
    "encoders.MultiEncoder+ImageEncoder+dreamer_encoder": encoder(perception.encoder, SPACES),
    "encoders.VectorEncoder": encoder(
        lambda: wb.encoders.VectorEncoder(VECTORS, units=10), VECTORS
    ),
    "encoders.GaussianEncoder": encoder(Seer, PICTURE),
    "encoders.GridEncoder": encoder(
        lambda: wb.encoders.dreamer_encoder(BOARD, depth=2, units=10), BOARD
    ),
    "decoders.GridDecoder": decoder(
        lambda: wb.decoders.dreamer_decoder(BOARD, **STATE, depth=2, units=10), BOARD
    ),
    "decoders.MultiDecoder+ImageDecoder+dreamer_decoder+Decoded+target": decoder(
        perception.decoder, SPACES
    ),
    "decoders.VectorDecoder": decoder(lambda: decoders(VECTORS), VECTORS),
    "heads.TwoHotHead": head(wb.heads.TwoHotHead, numbers),
    "decoders.GaussianDecoder": gaussian_decoder(dists.SigmoidImageMSE),
    "decoders.GaussianDecoder of absolute errors": gaussian_decoder(dists.SigmoidImageL1),
    "heads.SymlogHead": head(wb.heads.SymlogHead, numbers),
    "heads.BinaryHead": head(wb.heads.BinaryHead, shares),
    "heads.OneHotHead": head(wb.heads.OneHotHead, one_hots, groups=2, classes=4),
    "heads.NormalHead": head(wb.heads.NormalHead, vectors, size=3),
    "tasks.PaddedActor+PaddedPolicy+TaskHead+dreamer_head": head(Padding, moves),
    "heads.ActorHead": head(wb.heads.ActorHead, moves, actions=ACTIONS),
    "envs.gym": world(cartpole, limit=None, steps=60),
    "envs.EnvVector+Rows+Step+Episode": (testing.check_vector, wb.envs.EnvVector, {}),
    "tasks.Padded": world(
        lambda: wb.tasks.Padded(environments.Walk, environments.Walk().observation),
        limit=environments.LIMIT,
    ),
    "envs.Environment toy": world(environments.Walk, limit=environments.LIMIT),
    "testing.Bandit": world(testing.Bandit, **HASHED),
    "testing.Catch": world(testing.Catch),
    "testing.Delayed": world(testing.Delayed, **HASHED),
    "testing.First": world(testing.First),
    "testing.Grid": world(testing.Grid),
    "testing.Memory": world(testing.Memory),
    "testing.Scaled": world(lambda: testing.Scaled(testing.Memory, scale=3.0)),
    "testing.Target": world(testing.Target),
}

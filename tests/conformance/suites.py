"""The checks of `worldblocks.testing` on our own blocks: one line for each block or variant.

A line is `name: (check, what it takes, options)`; the name begins with the public names it covers,
which stand behind their module, joined by "+".
"""

import functools
import tempfile

import torch

import worldblocks as wb
from mutants import dynamics as sizes
from mutants import environments, perception, subjects
from mutants.distributions import BINS, grouped, joint, normal
from worldblocks import distributions as dists
from worldblocks import testing
from worldblocks.spaces import Continuous, Discrete

UNIMIX = 0.05
FEATURE = perception.FEATURE
SPACES = perception.SPACES
VECTORS = {key: space for key, space in SPACES.items() if key != "image"}
ACTIONS = {"jump": Discrete(3), "arm": Continuous((2,))}
STATE = perception.STATE


def rssm(**options):
    """A small RSSM and how it is tested."""
    make = functools.partial(
        wb.rssm.dreamer_rssm,
        embed_dim=sizes.EMBED,
        action_dim=sizes.ACTION,
        **sizes.SIZES,
        **options,
    )
    return testing.check_dynamics, make, dynamics_options(subjects.rssm_prior)


def dynamics_options(prior):
    return {
        "embed_dim": sizes.EMBED,
        "action_dim": sizes.ACTION,
        "prior": prior,
        "latent": lambda state: state.stoch,
    }


def kl(post, prior, free_nats):
    return wb.losses.balanced_kl(post, prior, free_nats=free_nats, unimix=UNIMIX)


def kl_distribution(raw):
    return dists.OneHot(raw, unimix=UNIMIX, event=1)


def lambda_return(reward, discount, value, cut):
    return wb.returns.lambda_return(reward, discount, value, 0.9 * (~cut).to(value.dtype))


def distribution(make, **options):
    return testing.check_distribution, make, {"size": 6, **options}


def image(kind):
    """An image of six pixels."""

    def make(raw):
        shaped = raw.reshape(*raw.shape[:-1], 2, 3, 1)
        return kind(shaped if kind is dists.SigmoidImageMSE else shaped.sigmoid())

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


def world(kind, **options):
    return testing.check_env, kind, options


def cartpole():
    return wb.envs.gym("CartPole-v1")


HASHED = {"skip": ["seeds-differ"]}  # nothing is drawn in these
SUITES = {
    "rssm.RSSM+dreamer_rssm+BlockGRU+CategoricalLatent+Carry+Packed+State+rollout+imagine": rssm(),
    "rssm.RSSM deep": rssm(absolute=True, core_layers=2, posterior_layers=2),
    "rssm.RSSM recompute": rssm(recompute=2),
    "losses.balanced_kl+categorical_kl": (
        testing.check_kl,
        kl,
        {"distribution": kl_distribution, "size": (3, 4)},
    ),
    "returns.lambda_return": (
        testing.check_return,
        lambda_return,
        {"definition": subjects.lambda_definition},
    ),
    "distributions.Normal": distribution(normal),
    "distributions.BoundedNormal": distribution(
        lambda raw: dists.BoundedNormal(raw[..., :3], raw[..., 3:], event=1)
    ),
    "distributions.OneHot+mix_uniform+softmax+modes+wants_mode+Output": distribution(grouped),
    "distributions.OneHot plain": distribution(functools.partial(grouped, unimix=0.0)),
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
    "normalize.PercentileScale": (
        subjects.check_percentiles,
        wb.normalize.PercentileScale,
        {},
    ),
    "normalize.RunningMoments": (subjects.check_moments, wb.normalize.RunningMoments, {}),
    "ema.SlowCopy": (subjects.check_slow, wb.ema.SlowCopy, {}),
    "optim.LaProp+adaptive_gradient_clip+dreamer_optimizer": optimizer(0.3),
    "optim.LaProp unclipped": optimizer(0.0),
    "replay.SequenceReplay+Batch+Memory": replay(wb.replay.Memory()),
    "replay.MemoryMapped": replay(wb.replay.MemoryMapped(tempfile.gettempdir())),
    "replay.OnDevice": replay(wb.replay.OnDevice("cpu")),
    "encoders.MultiEncoder+ImageEncoder+dreamer_encoder": encoder(perception.encoder, SPACES),
    "encoders.VectorEncoder": encoder(
        lambda: wb.encoders.VectorEncoder(VECTORS, units=10), VECTORS
    ),
    "decoders.MultiDecoder+ImageDecoder+dreamer_decoder+Decoded+target": decoder(
        perception.decoder, SPACES
    ),
    "decoders.VectorDecoder": decoder(lambda: decoders(VECTORS), VECTORS),
    "heads.TwoHotHead": head(wb.heads.TwoHotHead, numbers),
    "heads.BinaryHead": head(wb.heads.BinaryHead, shares),
    "heads.OneHotHead": head(wb.heads.OneHotHead, one_hots, groups=2, classes=4),
    "heads.NormalHead": head(wb.heads.NormalHead, vectors, size=3),
    "heads.ActorHead": head(wb.heads.ActorHead, moves, actions=ACTIONS),
    "envs.gym": world(cartpole, limit=None, steps=60),
    "envs.EnvVector+Rows+Step+Episode": (testing.check_vector, wb.envs.EnvVector, {}),
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

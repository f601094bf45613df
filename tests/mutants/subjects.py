"""The call of the check for each kind of block, correct or faulty."""

import dataclasses
import functools

import torch

from worldblocks import testing
from worldblocks.distributions import OneHot
from worldblocks.rssm import State

from . import agents, dynamics, environments, losses, perception


def rssm_prior(block, state):
    """The prior of an RSSM, or of one inside another module."""
    return getattr(block, "inner", block).prior(state)


def categorical(raw):
    return OneHot(raw, unimix=losses.UNIMIX, event=1)


def lambda_definition(reward, discount, value, cut, lam=0.9):
    """The λ-return as a mixture of n-step returns (Sutton & Barto 2018, equation 12.3)."""
    found = []
    for start in range(len(reward)):
        total, share, factor = 0.0, 1.0, 1.0
        for t in range(start, len(reward)):
            total += share * factor * reward[t]
            stop = t == len(reward) - 1 or cut[t]
            kept = 0.0 if stop else lam
            total += share * (1 - kept) * factor * discount[t] * value[t]
            factor *= discount[t]
            share *= kept
        found.append(total)
    return found


def three_steps_definition(reward, discount, value, cut):
    """The 3-step return: rewards until then, a cut or the end, and the value there."""
    found = []
    for start in range(len(reward)):
        total, factor = 0.0, 1.0
        for t in range(start, len(reward)):
            total += factor * reward[t]
            factor *= discount[t]
            if cut[t] or t in (start + 2, len(reward) - 1):
                total += factor * value[t]
                break
        found.append(total)
    return found


def discounted_definition(reward, discount, value, cut):
    """The discounted sum of all future rewards, and the last value."""
    found = []
    for start in range(len(reward)):
        total, factor = 0.0, 1.0
        for t in range(start, len(reward)):
            total += factor * reward[t]
            factor *= discount[t]
        found.append(total + factor * value[-1])
    return found


def laprop_definition(parameter, gradients, lr=0.1, betas=(0.9, 0.99), agc=0.3, warmup=4):
    """LaProp with clipping and warm-up, in plain steps."""
    square, momentum = torch.zeros_like(parameter), torch.zeros_like(parameter)
    for t, gradient in enumerate(gradients, 1):
        limit = agc * max(float(parameter.norm()), 1e-3)
        gradient = gradient / max(1.0, float(gradient.norm()) / limit)
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        unit = gradient / ((square / (1 - betas[1] ** t)).sqrt() + 1e-20)
        momentum = betas[0] * momentum + (1 - betas[0]) * unit
        rate = lr * min(1.0, (t - 1) / warmup)
        parameter = parameter - rate * momentum / (1 - betas[0] ** t)
    return parameter


@functools.wraps(testing.check_return)
def check_lambda_return(estimator, **options):
    """With λ = 0.9, and 0 where an episode is cut."""

    @functools.wraps(estimator)
    def call(reward, discount, value, cut):
        return estimator(reward, discount, value, 0.9 * (~cut).to(value.dtype))

    return testing.check_return(call, definition=lambda_definition, **options)


@functools.wraps(testing.check_normalizer)
def check_percentiles(make, **options):
    """With percentiles 5 and 95 and a floor of 1."""

    def statistic(x):
        low, high = x.flatten().quantile(torch.tensor([0.05, 0.95]))
        return (high - low).clamp(min=1.0)

    return testing.check_normalizer(make, statistic=statistic, **options)


@functools.wraps(testing.check_normalizer)
def check_moments(make, **options):
    def statistic(x):
        return x.mean(), x.std(correction=0)

    return testing.check_normalizer(make, statistic=statistic, corrected=True, **options)


@functools.wraps(testing.check_slow_copy)
def check_slow(kind, **options):
    return testing.check_slow_copy(functools.partial(kind, rate=0.1), rate=0.1, **options)


@functools.wraps(testing.check_head)
def check_numbers(make, **options):
    """A head that predicts a number, up to hundreds."""

    def target(batch):
        return 300 * torch.linspace(-1, 1, batch + 1)[1:]

    build = functools.partial(make, perception.FEATURE, units=16, layers=1)
    return testing.check_head(build, feature_dim=perception.FEATURE, target=target, **options)


def decoder_state(*batch):
    """A state of the decoders of `perception`."""
    groups = perception.STATE["stoch"] // 3
    deter, stoch = torch.randn(*batch, perception.STATE["deter"]), torch.randn(*batch, groups, 3)
    return State(deter, stoch, parameters=())


def pixels(output):
    return (output.mean * 255).round().to(torch.uint8)


@functools.wraps(testing.check_agent)
def check_recipe(make, **options):
    """The recipe, or a factory of one with a fault."""
    cfg = dataclasses.replace(agents.recipe.PRESETS["smoke"], horizon=4, lam=0.8, slow_rate=0.1)
    return testing.check_agent(make(), cfg=cfg, **options)


CHECKS = {
    "dynamics": functools.partial(
        testing.check_dynamics,
        embed_dim=dynamics.EMBED,
        action_dim=dynamics.ACTION,
        prior=rssm_prior,
        latent=lambda state: state.stoch,
    ),
    "kl": functools.partial(
        testing.check_kl,
        distribution=categorical,
        size=(3, 4),
    ),
    "return": check_lambda_return,
    "distribution": functools.partial(testing.check_distribution, size=6),
    "regression": functools.partial(testing.check_distribution, size=6, target=pixels),
    "normalizer": check_percentiles,
    "moments": check_moments,
    "slow copy": check_slow,
    "optimizer": functools.partial(testing.check_optimizer, definition=laprop_definition),
    "replay": testing.check_replay,
    "environment": functools.partial(testing.check_env, limit=environments.LIMIT),
    "vector": testing.check_vector,
    "encoder": functools.partial(testing.check_encoder, spaces=perception.SPACES),
    "decoder": functools.partial(
        testing.check_decoder, spaces=perception.SPACES, state=decoder_state
    ),
    "head": check_numbers,
    "agent": check_recipe,
}


def named(kind):
    """The name of the check of a kind."""
    return getattr(CHECKS[kind], "func", CHECKS[kind]).__name__

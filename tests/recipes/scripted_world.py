"""Scripted agents of our recipes, with a head or several, and one whole update of each by loops."""

import dataclasses
import math
from types import SimpleNamespace

import torch
from torch import nn

import worldblocks as wb
from worldblocks.distributions import Normal
from worldblocks.testing.agent.scripted import (
    ACTION,
    PLACE,
    Number,
    Place,
    Policy,
    Push,
    Scale,
    Share,
    told_losses,
)
from worldblocks.testing.episodes import Trajectory

RATE = 0.25  # of the slow critics
TASKS = ("walk", "run", "jump")
ROWS = Trajectory(
    (True, False, False, True, False),
    (
        "..T..L.",
        "..A....",
        "L.....T",
        ".......",
        ".T..L..",
    ),
    4,
)
SPACES = {"vector": wb.spaces.Continuous((6,))}
ACTIONS = {"arm": wb.spaces.Continuous((ACTION,))}
RANGES = {"height": (0.0, 2.0, False), "lamp": (0.0, 1.0, True)}


def small(recipe, **changes):
    """Its smoke preset with numbers that show in every loss."""
    numbers = {"horizon": 4, "lam": 0.75, "gamma": 0.9, "entropy": 0.3, "reconstruction": 0.6}
    return dataclasses.replace(recipe.PRESETS["smoke"], **numbers | changes)


def weights(*shape, start=-0.5, end=0.6):
    return nn.Parameter(torch.linspace(start, end, math.prod(shape)).view(shape))


class World(Push):
    """A dynamics block: the place decays, is pushed by the action, and moves with what is seen."""

    def __init__(self):
        super().__init__()
        self.expected, self.found = weights(PLACE, PLACE), weights(PLACE, PLACE, start=0.9, end=-1)

    def initial(self, n):
        return Place(torch.zeros(n, PLACE))

    def pack(self, carry):
        return Place(2 * carry.x)

    def unpack(self, packed):
        return Place(packed.x / 2)

    def observe(self, carry, embed, prev_action, is_first):
        rows, x = [], carry.x
        for t in range(embed.shape[1]):
            kept = ~is_first[:, t, None]
            x = kept * (0.5 * x + prev_action[:, t] @ self.force) + embed[:, t]
            rows.append(x)
        return Place(torch.stack(rows, 1))

    def prior(self, deter):
        return Normal(deter @ self.expected, 1.5 + (deter @ self.expected).tanh(), event=1)

    def posterior(self, state):
        return Normal(state.x @ self.found, 1.2 + 0.9 * (state.x @ self.found).tanh(), event=1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.look = weights(6, PLACE)

    def forward(self, obs):
        assert set(obs) == {"vector"}
        return obs["vector"] @ self.look


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.show = weights(PLACE, 6, start=0.5, end=-0.4)

    def error(self, state, obs):
        return (state.x @ self.show - obs["vector"]).square().sum(-1)

    def forward(self, state):
        return SimpleNamespace(nll=lambda obs: self.error(state, obs))


class Features(nn.Module):
    """Predicts two features of the world."""

    ranges = RANGES

    def __init__(self):
        super().__init__()
        self.slopes = weights(PLACE, 2, start=-0.7, end=0.8)

    def predicted(self, x):
        return dict(zip(RANGES, (x @ self.slopes.to(x.dtype)).unbind(-1), strict=True))

    def error(self, x, target):
        mean = self.predicted(x)
        return sum(2**k * (mean[name] - target[name]) ** 2 for k, name in enumerate(RANGES))

    def forward(self, x):
        return SimpleNamespace(mean=self.predicted(x), nll=lambda target: self.error(x, target))


class Wanted:
    """A reward that is a sum of features: what a compiled spec is."""

    def __init__(self, **weight):
        self.weight, self.names = weight, sorted(weight)

    def __call__(self, features, is_first=None):
        return sum(self.weight[name] * features[name] for name in self.names)

    @property
    def relabel(self):
        """Compares with the row before, so that a row is unknown where a window begins."""
        return wb.replay.Relabel(tuple(self.names), self, temporal=True)


def head(k):
    """The head of task k, which is like no other's."""
    actor = Policy()
    actor.weight.data *= 1 - 0.4 * k
    return wb.tasks.TaskHead(
        reward=Number(1.0 + 0.3 * k, 0.2 - 0.2 * k),
        actor=actor,
        value=Number(0.7 - 0.5 * k, 0.4),
        slow_value=wb.ema.SlowCopy(Number(0.3 + 0.2 * k, 0.6 - 0.1 * k), rate=RATE),
        return_scale=Scale(2.0 + k),
    )


def scripted(agent, tasks=()):
    """An agent of a recipe with scripted parts, and a head for each task or one for all."""
    agent.encoder, agent.decoder, agent.rssm = Encoder(), Decoder(), World()
    agent.cont = Share(0.8, 0.0)
    if hasattr(agent, "features"):
        agent.features = Features()
    if not tasks:
        for name, part in head(0).named_children():
            setattr(agent, name, part)
        return agent
    agent.heads = wb.tasks.TaskHeads()
    for k, name in enumerate(tasks):
        agent.heads.add(name, head(k))
    return agent


def windows():
    """Rows of experience."""
    action = torch.where(ROWS.is_first[..., None], 0.0, ROWS.normal(ACTION, key=3))
    return wb.replay.Batch(
        obs={"vector": ROWS.normal(6, key=2)},
        prev_action=action,
        reward=ROWS.normal(key=1),
        is_first=ROWS.is_first,
        is_last=ROWS.is_last,
        is_terminal=ROWS.is_terminal,
        carry=Place(ROWS.normal(PLACE, key=5)[:, 0]),
        row=None,
    )


def mixture(tasks=TASKS):
    """Windows of several tasks. Where a reward is not known, another number stands."""
    reward = torch.stack([ROWS.normal(key=10 + k) for k in range(len(tasks))])
    known = torch.stack([ROWS.normal(key=20 + k) > 0.4 * k - 0.3 for k in range(len(tasks))])
    feature = {name: ROWS.normal(key=30 + k) for k, name in enumerate(RANGES)}
    return wb.replay.Mixture(windows(), torch.tensor([0, 2, 1, 0, 2]), reward, known, feature)


# ------------------------------------------------------------------------------ by hand, float64


def told_world(agent, batch, cfg):
    """States, losses and metrics of the world; γ is in the continue head, a time limit is alive."""
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior, posterior = agent.rssm.prior(post.x), agent.rssm.posterior(post)
    cont = agent.cont.number(post.x.double())
    losses = {
        "dyn": 1.0 * told_kl(posterior.mean.detach(), posterior.std.detach(), *parts(prior)),
        "rep": 0.1 * told_kl(*parts(posterior), prior.mean.detach(), prior.std.detach()),
        "obs": cfg.reconstruction * agent.decoder.error(post, batch.obs),
        "cont": (cont - cfg.gamma * (1 - batch.is_terminal.double())) ** 2,
    }
    names = {"prior_entropy": prior, "posterior_entropy": posterior}
    metrics = {name: 0.5 * torch.log(math.tau * math.e * x.std**2) for name, x in names.items()}
    return post, losses, {name: x.sum(-1) for name, x in metrics.items()}


def parts(normal):
    return normal.mean, normal.std


def told_kl(mean, std, other_mean, other_std):
    """KL of the first from the second, at least 1 nat."""
    ratio = (std**2 + (mean - other_mean) ** 2) / other_std**2
    kl = (other_std.log() - std.log() + ratio / 2 - 0.5).sum(-1)
    return torch.where(kl > 1, kl, torch.ones_like(kl))


def told_mean(loss, rows):
    """A loss whose mean is that over some of its rows; 0 where there is none."""
    kept = rows.expand_as(loss)
    return torch.where(kept, loss, 0.0) * kept.numel() / max(1, int(kept.sum()))


def told_part(agent, part, post, batch, cfg, reward=None, cont=None):
    """`told_losses` of one head, and how an agent's parts are found for it."""
    one = SimpleNamespace(rssm=agent.rssm, cont=cont or agent.cont, actor=part.actor)
    one.reward, one.value = reward or part.reward, part.value
    one.slow_value, one.return_scale = part.slow_value.copy, part.return_scale
    first = len(batch.reward[0]) - (cfg.imag_last or len(batch.reward[0]))  # row of imagination
    rows = batch._replace(
        obs={},
        carry=None,
        **{
            name: getattr(batch, name)[:, first:]
            for name in ("prev_action", "reward", "is_first", "is_last", "is_terminal")
        },
    )
    return told_losses(one, Place(post.x[:, first:]), rows, cfg)


class Imagined:
    """The reward that predicted features have."""

    def __init__(self, features, wanted):
        self.features, self.wanted = features, wanted

    def number(self, x):
        return self.wanted(self.features.predicted(x))


def told_reward(part, post, reward):
    return (part.reward.number(post.x.double()) - reward.double()) ** 2


def told_single(agent, batch, cfg):
    """Losses and metrics of an update of the agent of one task."""
    post, losses, metrics = told_world(agent, batch, cfg)
    losses["reward"] = told_reward(agent, post, batch.reward)
    told = told_part(agent, agent, post, batch, cfg)
    losses |= {"actor": told.actor, "critic": told.critic, "replay_critic": told.replay_critic}
    advantage = (told.returns - told.value[:, :-1]) / told.scale
    metrics |= {"reward": told.reward, "continue": told.cont, "value": told.value}
    metrics |= {"return": told.returns, "return_scale": told.scale}
    metrics |= {"return_min": told.returns.min(), "return_max": told.returns.max()}
    metrics |= {"advantage_abs": advantage.abs(), "policy_entropy": told.entropy}
    return post, losses, metrics


def told_several(agent, mixture, cfg, specs=None):
    """Losses and metrics of an update with a head for each task, or (`specs`) each candidate.

    A candidate's critic learns from imagination alone; a task's from the rows that it played too.
    """
    batch = mixture.batch
    post, losses, metrics = told_world(agent, batch, cfg)
    if specs:
        losses["features"] = cfg.features * agent.features.error(post.x, mixture.feature)
    seen = post if cfg.reward_grad == "all" else post.detach()
    for k, name in enumerate(agent.heads):
        part, wanted = agent.heads[name], specs[k] if specs else None
        by_features = wanted and cfg.imagined == "features"
        imagined = Imagined(agent.features, wanted) if by_features else part.reward
        own = batch._replace(reward=mixture.reward[k])
        told = told_part(agent, part, seen, own, cfg, reward=imagined)
        error = told_reward(part, seen, own.reward)
        losses[f"{name}/reward"] = told_mean(error, mixture.known[k])
        losses[f"{name}/actor"], losses[f"{name}/critic"] = told.actor, told.critic
        if not specs:
            mine = (mixture.task == k)[:, None]
            losses[f"{name}/replay_critic"] = told_mean(told.replay_critic, mine)
        metrics[f"{name}/value"], metrics[f"{name}/return"] = told.value, told.returns
        metrics[f"{name}/return_scale"], metrics[f"{name}/entropy"] = told.scale, told.entropy
    return post, losses, metrics


def judge(agent, update, losses, trained=None, followed=None):
    """What an update left, against one step of plain descent on the sum of the mean losses.

    Gradients were left over before. Slow critics follow, once, what the critics are after the step;
    all other numbers stay.

    Args:
        agent: with its scripted parts.
        update: takes an optimiser.
        losses: those that are told, before the update.
        trained: the parameters of the optimiser; default: all.
        followed: the heads whose slow critics move; default: all.
    """
    heads = list(agent.heads.parts.values()) if hasattr(agent, "heads") else [agent]
    heads = heads if followed is None else followed
    trained = list(agent.parameters()) if trained is None else trained
    trained = [p for p in trained if p.requires_grad]
    total = sum(loss.mean() for loss in losses.values())
    steps = torch.autograd.grad(total, trained, allow_unused=True, retain_graph=True)
    told = {id(p): p.detach().clone() for p in agent.parameters()}
    for parameter, step in zip(trained, steps, strict=True):
        told[id(parameter)] -= 0.0 if step is None else step
    for part in heads:
        pairs = zip(part.slow_value.parameters(), part.value.parameters(), strict=True)
        for slow, fast in pairs:
            told[id(slow)] = (1 - RATE) * slow.detach() + RATE * told[id(fast)]
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 7.0)
    found = update(torch.optim.SGD(trained, lr=1.0))
    for name, parameter in agent.named_parameters():
        close(parameter.detach(), told[id(parameter)], name)
    return found


def close(ours, told, name):
    size = told.abs().max().clamp(min=1.0)
    gap = (ours.double() - told.double()).abs().max() / size
    assert gap < 2e-5, f"{name} is {ours.tolist()} and should be {told.tolist()}"


def compare(found, post, losses, metrics):
    """The states and the means that an update returns."""
    states, ours = found
    assert not states.x.requires_grad
    close(states.x, post.x.detach(), "states")
    told = metrics | {f"loss/{name}": loss for name, loss in losses.items()}
    assert ours.keys() == told.keys()
    for name, value in ours.items():
        close(value, told[name].detach().mean(), name)

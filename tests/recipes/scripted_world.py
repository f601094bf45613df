"""Scripted agents for the recipes: a world model with one head, or a head per task or candidate."""

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
    """The smoke preset with numbers that matter in every loss."""
    numbers = {"horizon": 4, "lam": 0.75, "gamma": 0.9, "entropy": 0.3, "reconstruction": 0.6}
    return dataclasses.replace(recipe.PRESETS["smoke"], **numbers | changes)


def weights(*shape, start=-0.5, end=0.6):
    return nn.Parameter(torch.linspace(start, end, math.prod(shape)).view(shape))


class World(Push):
    """A dynamics block: the place decays, is pushed by actions and shifted by observations."""

    def __init__(self):
        super().__init__()
        self.expected, self.found = weights(PLACE, PLACE), weights(PLACE, PLACE, start=0.9, end=-1)

    def initial(self, n):
        return Place(torch.zeros(n, PLACE))

    def pack(self, carry):
        return Place(2 * carry.x)

    def unpack(self, packed):
        (x,) = packed
        return Place(x / 2)

    def observe(self, carry, embed, prev_action, is_first):
        rows, x = [], carry.x
        for t in range(embed.shape[1]):
            kept = ~is_first[:, t, None]
            x = kept * (0.5 * x + prev_action[:, t] @ self.force) + embed[:, t]
            rows.append(x)
        return Place(torch.stack(rows, 1))

    def prior(self, state):
        return Normal(state.x @ self.expected, 1.5 + (state.x @ self.expected).tanh(), event=1)

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
    """Predicts two features."""

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


class FeatureReward:
    """A weighted sum of features as a reward, like a compiled spec."""

    def __init__(self, **weight):
        self.weight, self.names = weight, sorted(weight)

    def __call__(self, features, is_first=None):
        return sum(self.weight[name] * features[name] for name in self.names)

    @property
    def relabel(self):
        """Temporal: compares with the row before, so the first row of a window is unknown."""
        return wb.replay.Relabel(tuple(self.names), self, temporal=True)


def task_suite(tasks=TASKS, narrow=()):
    """A task suite without environments; actions of the `narrow` tasks have one number less."""
    actions = dict.fromkeys(tasks, ACTIONS)
    actions |= {task: {"leg": wb.spaces.Continuous((ACTION - 1,))} for task in narrow}
    padding = lambda task: torch.zeros(ACTION - wb.spaces.action_size(actions[task]))  # noqa: E731
    suite = SimpleNamespace(observation=SPACES, actions=actions, width=ACTION, padding=padding)
    suite.base_tasks = list(tasks)
    return suite


def place():
    """An environment with features, never played."""
    features = {f"feat/{name}": wb.spaces.Continuous(()) for name in RANGES}
    describer = SimpleNamespace(ranges=RANGES)
    return SimpleNamespace(observation=SPACES | features, action=ACTIONS, describer=describer)


def head(k):
    """The head of task k, unlike the others."""
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
    """A recipe's agent with scripted parts, and a head per task or a single one."""
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


def alone(agent):
    """An agent without actor and critic, with scripted parts."""
    agent.encoder, agent.decoder, agent.rssm = Encoder(), Decoder(), World()
    agent.cont, agent.reward = Share(0.8, 0.0), Number(1.0, 0.2)
    return agent


def windows():
    """A batch of experience."""
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
    """Windows of several tasks. Unknown rewards hold arbitrary numbers."""
    reward = torch.stack([ROWS.normal(key=10 + k) for k in range(len(tasks))])
    known = torch.stack([ROWS.normal(key=20 + k) > 0.4 * k - 0.3 for k in range(len(tasks))])
    feature = {name: ROWS.normal(key=30 + k) for k, name in enumerate(RANGES)}
    return wb.replay.Mixture(windows(), torch.tensor([0, 2, 1, 0, 2]), reward, known, feature)

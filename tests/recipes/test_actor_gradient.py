"""Each choice of `actor_grad` gives the gradient it claims, to the actor alone."""

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import dreamerv3_dmc as recipe
import worldblocks as wb
from worldblocks.testing.agent.scripted import Place

ACTIONS = {
    "continuous": {"action": wb.spaces.Continuous((2,))},
    "discrete": {"action": wb.spaces.Discrete(3)},
    "both": {"arm": wb.spaces.Continuous((2,)), "jump": wb.spaces.Discrete(3)},
}
CHOICES = ("reinforce", "dynamics", "mix")
CFG = dataclasses.replace(recipe.PRESETS["smoke"], horizon=4, lam=0.8, mix=0.7, entropy=0.02)
BATCH, TIME = 2, 5


def build(kind):
    """An agent with non-zero predictions: new heads predict 0, and pass no gradient back."""
    torch.manual_seed(0)
    agent, _ = recipe.build(CFG, {"vector": wb.spaces.Continuous((7,))}, ACTIONS[kind])
    for head in (agent.reward, agent.value, agent.slow_value.copy):
        nn.init.normal_(head.out.weight, std=0.5)
        with torch.no_grad():  # only bins near 0: the outermost are 1e8
            head.out.bias.copy_(-((torch.arange(255) - 127) ** 2) / 20)
    return agent


def experience(agent):
    flags = torch.zeros(3, BATCH, TIME, dtype=torch.bool)
    flags[0, :, 0] = flags[1, 1, 3] = flags[2, 1, 3] = flags[0, 1, 4] = True
    return wb.replay.Batch(
        obs={"vector": torch.randn(BATCH, TIME, 7)},
        prev_action=torch.randn(BATCH, TIME, agent.action_size),
        reward=torch.randn(BATCH, TIME),
        is_first=flags[0],
        is_last=flags[1],
        is_terminal=flags[2],
        carry=agent.rssm.initial(BATCH),
        row=None,
    )


def gradient(loss, parameters):
    """Gradients by name, of the parameters that a loss reaches."""
    found = torch.autograd.grad(loss, [*parameters.values()], retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


@pytest.fixture(autouse=True)
def plain_imagination(monkeypatch):
    """The same operations with and without gradients; otherwise they round differently."""
    monkeypatch.setattr("worldblocks.rssm.cores.gates.eager_on_cpu", lambda _: False)


@functools.cache
def gradients(kind, choice):
    """Gradients of the actor loss, of the two critic losses, and of all losses together."""
    agent, cfg = build(kind), dataclasses.replace(CFG, actor_grad=choice)
    batch = experience(agent)
    parameters = {name: p for name, p in agent.named_parameters() if p.requires_grad}
    post, losses, _ = recipe.world_model_loss(agent, batch, cfg)
    more, _ = recipe.actor_critic_loss(agent, post, batch, cfg)
    critic = more["critic"].mean() + more["replay_critic"].mean()
    total = sum(loss.mean() for loss in (losses | more).values())
    return [gradient(loss, parameters) for loss in (more["actor"].mean(), critic, total)]


def of_actor(names):
    return {name for name in names if name.startswith("actor.")}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kind", ACTIONS)
def test_the_actors_loss_reaches_the_actor_alone(kind, choice):
    actor, critic, total = gradients(kind, choice)
    assert set(actor) == of_actor(total)
    assert all(g.abs().max() > 0 for g in actor.values())
    assert critic
    assert not of_actor(critic)


@pytest.mark.parametrize("choice", CHOICES[1:])
@pytest.mark.parametrize("kind", ACTIONS)
def test_everything_but_the_actor_learns_the_same(kind, choice):
    """Bitwise, critic and world model: the same rows are imagined."""
    ours, theirs = gradients(kind, choice)[2], gradients(kind, "reinforce")[2]
    assert list(ours) == list(theirs)
    for name in set(ours) - of_actor(ours):
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("kind", ACTIONS)
def test_mix_is_the_weighted_mean(kind):
    reinforce, dynamics, mix = (gradients(kind, choice)[0] for choice in CHOICES)
    for name, ours in mix.items():
        expected = 0.7 * reinforce[name] + 0.3 * dynamics[name]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(reinforce[name], dynamics[name], rtol=0.1)


# A world with a known gradient; with discrete actions, everything is linear in them.


class Push(nn.Module):
    """The place decays, drifts and is pushed by the action."""

    def __init__(self, action):
        super().__init__()
        self.force = nn.Parameter(torch.randn(action, 2))
        self.drift = nn.Parameter(torch.randn(2))

    def imagine_step(self, carry, action):
        return Place(0.9 * carry.x + self.drift + action @ self.force)


class Score(nn.Module):
    """A function of the place: linear minus `bend` times quadratic."""

    def __init__(self, bend):
        super().__init__()
        self.slope, self.bend = nn.Parameter(torch.randn(2)), bend

    def number(self, x):
        return (x * self.slope - self.bend * x.square()).sum(-1)

    def forward(self, x):
        return wb.distributions.MSE(self.number(x))


class Constant(nn.Module):
    def forward(self, x):
        return wb.distributions.MSE(torch.full(x.shape[:-1], 0.9))


class Policy(nn.Module):
    """Depends on the place, and records its inputs."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.raw, self.seen = kind, nn.Parameter(torch.randn(3)), []
        self.look = torch.tensor([0.5, -0.25, 0.125])

    def forward(self, x):
        self.seen.append(x.detach().double())
        raw = self.raw + self.look * x.sum(-1, keepdim=True)
        if self.kind == "discrete":
            return wb.distributions.OneHot(raw)
        return wb.distributions.Normal(raw, torch.full_like(raw, 0.4), event=1)


def known_agent(kind):
    bend = 0.3 * (kind == "continuous")  # a straight-through gradient is exact for linear functions
    value = Score(bend)
    return SimpleNamespace(
        rssm=Push(3),
        reward=Score(bend),
        cont=Constant(),
        value=value,
        slow_value=value,
        actor=Policy(kind),
        return_scale=lambda _: torch.tensor(2.0),
    )


def objective(agent, raw, start, noise, lam):
    """The mean of w R / scale, by loops, as a function of the policy's parameter `raw`.

    The policy gets its recorded inputs: no gradient flows through them.
    """
    actor = agent.actor
    double = {k: v.detach().double() for k, v in agent.rssm.named_parameters()}
    places = [start]
    for step in range(len(noise) - 1):
        mean = raw + actor.look * actor.seen[step].sum(-1, keepdim=True)
        action = mean + 0.4 * noise[step] if actor.kind == "continuous" else mean.softmax(-1)
        places.append(0.9 * places[-1] + double["drift"] + action @ double["force"])
    reward, value = ([head.number(x) for x in places] for head in (agent.reward, agent.value))
    result, after = [], value[-1]
    for t in reversed(range(len(places) - 1)):
        after = reward[t + 1] + 0.9 * ((1 - lam) * value[t + 1] + lam * after)
        result.append(0.9 ** (t + 1) * after / 2.0)
    return torch.stack(result).mean()


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_dynamics_is_the_gradient_of_the_return(kind):
    """Against central differences, exact in this world, with the same noise."""
    agent, cfg = known_agent(kind), dataclasses.replace(CFG, actor_grad="dynamics", entropy=0.0)
    post = Place(torch.randn(BATCH, TIME, 2))
    flags = torch.zeros(BATCH, TIME, dtype=torch.bool)
    batch = SimpleNamespace(reward=torch.randn(BATCH, TIME), is_terminal=flags, is_last=flags)
    torch.manual_seed(7)
    losses, _ = recipe.actor_critic_loss(agent, post, batch, cfg)
    losses["actor"].mean().backward()
    torch.manual_seed(7)
    noise = [torch.randn(BATCH * TIME, 3).double() for _ in range(cfg.horizon + 1)]
    start, raw = post.flatten().x.double(), agent.actor.raw.detach().double()
    for i, step in enumerate(1e-3 * torch.eye(3).double()):
        up, down = (objective(agent, raw + d, start, noise, cfg.lam) for d in (step, -step))
        expected = -(up - down) / 2e-3
        torch.testing.assert_close(agent.actor.raw.grad[i].double(), expected, rtol=1e-4, atol=1e-6)
    for world in (agent.rssm, agent.reward):
        assert all(p.grad is None and p.requires_grad for p in world.parameters())

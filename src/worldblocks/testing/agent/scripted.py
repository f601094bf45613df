"""An agent simple enough to compute by hand, and its losses by plain loops."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worldblocks.distributions import MSE
from worldblocks.distributions.output import Output

PLACE, ACTION = 3, 2


class Place(NamedTuple):
    """A state that is a point, with itself as carry and feature."""

    x: Tensor

    @property
    def carry(self) -> "Place":
        """The point."""
        return self

    @property
    def deter(self) -> Tensor:
        """The point."""
        return self.x

    def feature(self) -> Tensor:
        """The point."""
        return self.x

    def flatten(self) -> "Place":
        """`batch time ... -> batch*time ...`."""
        return Place(self.x.flatten(0, 1))

    def detach(self) -> "Place":
        """Without gradient history."""
        return Place(self.x.detach())

    def light(self) -> "Place":
        """The point."""
        return self

    def __getitem__(self, index: Any) -> Any:
        """Index the batch axes; an int selects the field, as in every NamedTuple."""
        return tuple.__getitem__(self, index) if isinstance(index, int) else Place(self.x[index])


class Push(nn.Module):
    """A dynamics block: the point decays, and the action pushes it."""

    feature_dim = PLACE

    def __init__(self) -> None:
        super().__init__()
        self.force = nn.Parameter(torch.linspace(-1, 1, ACTION * PLACE).view(ACTION, PLACE))

    def imagine_step(self, carry: Place, action: Tensor) -> Place:
        """The next point."""
        return Place(0.9 * carry.x + action @ self.force)


class Number(nn.Module):
    """A head: linear plus quadratic in the point."""

    def __init__(self, slope: float, bend: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope * torch.tensor([1.0, -0.5, 0.25]))
        self.bend = bend

    def number(self, x: Tensor) -> Tensor:
        """The prediction."""
        return (x * self.slope.to(x.dtype)).sum(-1) + self.bend * x.square().sum(-1)

    def forward(self, x: Tensor) -> MSE:
        """The prediction as an output."""
        return MSE(self.number(x))


class Share(Number):
    """A continue head, with predictions between 0.5 and 1 that include γ."""

    def number(self, x: Tensor) -> Tensor:
        """The prediction."""
        return 0.5 + 0.5 * super().number(x).sigmoid()


class Choice(Output):
    """A deterministic policy: its sample is its mode."""

    tensors = ("raw",)

    def __init__(self, raw: Tensor) -> None:
        super().__init__(event=1)
        self.raw = raw

    @property
    def mean(self) -> Tensor:
        """The action."""
        return self.raw.tanh()

    mode = mean

    def sample(self, noise: Any = None) -> Tensor:
        """The action."""
        return self.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """A number for each action, not a log-probability, so that a wrong row shows."""
        return -(x - self.raw - 0.3).square().sum(-1)

    def entropy(self) -> Tensor:
        """A number, likewise."""
        return self.raw.square().sum(-1) + 1.0


class Policy(nn.Module):
    """A linear policy over the point."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.7, PLACE * ACTION).view(PLACE, ACTION))

    def forward(self, x: Tensor) -> Choice:
        """The action distribution at each point."""
        return Choice(x @ self.weight.to(x.dtype))


class Scale(nn.Module):
    """A running scale, updated in training: half of its last value plus the mean magnitude."""

    def __init__(self, last: float = 2.0) -> None:
        super().__init__()
        self.last = torch.tensor(last)

    def next(self, x: Tensor) -> Tensor:
        """The scale after an update."""
        return 0.5 * self.last.to(x.dtype) + x.abs().mean()

    def forward(self, x: Tensor) -> Tensor:
        """The scale, updated first in training."""
        if self.training:
            self.last = self.next(x.detach())
        return self.last


def scripted_agent() -> SimpleNamespace:
    """The modules used by the losses of a recipe."""
    return SimpleNamespace(
        rssm=Push(),
        reward=Number(1.0, 0.2),
        cont=Share(0.8, 0.0),
        value=Number(0.7, 0.4),
        slow_value=Number(0.3, 0.6),
        actor=Policy(),
        return_scale=Scale(),
    )


class Expected(NamedTuple):
    """The losses by their definition, and their parts, in float64."""

    actor: Tensor
    critic: Tensor
    replay_critic: Tensor
    reward: Tensor
    cont: Tensor
    value: Tensor
    returns: Tensor
    scale: Tensor
    entropy: Tensor


def expected_losses(agent: Any, post: Place, batch: Any, cfg: Any) -> Expected:
    """DreamerV3's losses of actor and critic, by loops (equations 7, 10 and 11 of the paper).

    Their gradients are right too: `detach` and `no_grad` mark the constants of the definition.
    """
    with torch.no_grad():
        places, actions = [post.x.flatten(0, 1).double()], []
        for _ in range(cfg.horizon):
            actions.append(agent.actor(places[-1]).sample())
            places.append(0.9 * places[-1] + actions[-1] @ agent.rssm.force.double())
        reward, cont, value, slow = (
            [head.number(x) for x in places]
            for head in (agent.reward, agent.cont, agent.value, agent.slow_value)
        )
        returns = backwards(reward, cont, value, [cfg.lam] * len(places))
        scale = agent.return_scale.next(torch.stack(returns))
    actor, critic, bonus, weight = [], [], [], torch.ones_like(reward[0])
    for t in range(cfg.horizon):
        weight = weight * cont[t]
        policy, learnt = agent.actor(places[t]), agent.value.number(places[t])
        gain = policy.log_prob(actions[t]) * (returns[t] - value[t]) / scale
        bonus.append(policy.entropy())
        actor.append(-weight * (gain + cfg.entropy * bonus[t]))
        critic.append(weight * ((learnt - returns[t]) ** 2 + (learnt - slow[t]) ** 2))
    first = returns[0].view(batch.reward.shape)
    replayed = 0.3 * expected_replay(agent, post.x.double(), batch, first, cfg)
    return Expected(
        actor=torch.stack(actor, 1),
        critic=torch.stack(critic, 1),
        replay_critic=replayed,
        reward=torch.stack(reward, 1),
        cont=torch.stack(cont, 1),
        value=torch.stack(value, 1),
        returns=torch.stack(returns, 1),
        scale=scale,
        entropy=torch.stack(bonus, 1),
    )


def backwards(
    reward: list[Tensor], discount: list[Tensor], value: list[Tensor], lam: list[Any]
) -> list[Tensor]:
    """The λ-returns of all rows but the last."""
    after, found = value[-1], []
    for t in reversed(range(1, len(reward))):
        after = reward[t] + discount[t] * ((1 - lam[t]) * value[t] + lam[t] * after)
        found.append(after)
    return found[::-1]


def expected_replay(agent: Any, x: Tensor, batch: Any, first: Tensor, cfg: Any) -> Tensor:
    """The critic's loss on replayed rows."""
    rows = range(x.shape[1])
    live = [cfg.gamma * (1 - batch.is_terminal[:, t].double()) for t in rows]
    lam = [cfg.lam * (1 - batch.is_last[:, t].double()) for t in rows]
    reward = [batch.reward[:, t].double() for t in rows]
    target = backwards(reward, live, [first[:, t] for t in rows], lam)
    found = []
    for t in rows[:-1]:
        value = agent.value.number(x[:, t])
        slow = agent.slow_value.number(x[:, t]).detach()
        loss = (value - target[t]) ** 2 + (value - slow) ** 2
        found.append(loss * (1 - batch.is_last[:, t].double()))
    return torch.stack(found, 1)

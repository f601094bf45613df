"""One update of a scripted agent by plain loops in float64, to compare a recipe's with."""

import copy
import math
from types import SimpleNamespace

import torch
from scripted_world import RATE

from worldblocks.testing.agent.scripted import Place, expected_losses


def expected_world(agent, batch, cfg):
    """States, losses and metrics of the world model; γ is in the continue head."""
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior, posterior = agent.rssm.prior(post), agent.rssm.posterior(post)
    cont = agent.cont.number(post.x.double())
    losses = {
        "dyn": 1.0 * expected_kl(posterior.mean.detach(), posterior.std.detach(), *parts(prior)),
        "rep": 0.1 * expected_kl(*parts(posterior), prior.mean.detach(), prior.std.detach()),
        "obs": cfg.reconstruction * agent.decoder.error(post, batch.obs),
        "cont": (cont - cfg.gamma * (1 - batch.is_terminal.double())) ** 2,
    }
    names = {"prior_entropy": prior, "posterior_entropy": posterior}
    metrics = {name: 0.5 * torch.log(math.tau * math.e * x.std**2) for name, x in names.items()}
    return post, losses, {name: x.sum(-1) for name, x in metrics.items()}


def parts(normal):
    return normal.mean, normal.std


def expected_kl(mean, std, other_mean, other_std):
    """KL of the first from the second, at least 1 nat."""
    ratio = (std**2 + (mean - other_mean) ** 2) / other_std**2
    kl = (other_std.log() - std.log() + ratio / 2 - 0.5).sum(-1)
    return torch.where(kl > 1, kl, torch.ones_like(kl))


def expected_mean(loss, rows):
    """A loss whose mean is the mean over the selected rows, 0 if there are none."""
    kept = rows.expand_as(loss)
    return torch.where(kept, loss, 0.0) * kept.numel() / max(1, int(kept.sum()))


def expected_part(agent, part, post, batch, cfg, reward=None, cont=None):
    """`expected_losses` of one head of an agent."""
    one = SimpleNamespace(rssm=agent.rssm, cont=cont or agent.cont, actor=part.actor)
    one.reward, one.value = reward or part.reward, part.value
    one.slow_value, one.return_scale = part.slow_value.copy, part.return_scale
    first = len(batch.reward[0]) - (cfg.imag_last or len(batch.reward[0]))  # row of imagination
    rows = {name: getattr(batch, name)[:, first:] for name in ("reward", "is_last", "is_terminal")}
    return expected_losses(one, Place(post.x[:, first:]), SimpleNamespace(**rows), cfg)


class Imagined:
    """The reward of predicted features."""

    def __init__(self, features, reward):
        self.features, self.reward = features, reward

    def number(self, x):
        return self.reward(self.features.predicted(x))


def expected_reward(part, post, reward):
    return (part.reward.number(post.x.double()) - reward.double()) ** 2


def expected_single(agent, batch, cfg):
    """States, losses and metrics of an update of the agent of one task."""
    post, losses, metrics = expected_world(agent, batch, cfg)
    losses["reward"] = expected_reward(agent, post, batch.reward)
    expected = expected_part(agent, agent, post, batch, cfg)
    losses |= {
        "actor": expected.actor,
        "critic": expected.critic,
        "replay_critic": expected.replay_critic,
    }
    advantage = (expected.returns - expected.value[:, :-1]) / expected.scale
    metrics |= {"reward": expected.reward, "continue": expected.cont, "value": expected.value}
    metrics |= {"return": expected.returns, "return_scale": expected.scale}
    metrics |= {"return_min": expected.returns.min(), "return_max": expected.returns.max()}
    metrics |= {"advantage_abs": advantage.abs(), "policy_entropy": expected.entropy}
    return post, losses, metrics


def expected_recorded(agent, batch, cfg):
    """Losses and metrics of a world model without a policy, on recorded data."""
    post, losses, metrics = expected_world(agent, batch, cfg)
    return losses | {"reward": expected_reward(agent, post, batch.reward)}, metrics


def expected_several(agent, mixture, cfg, specs=None):
    """States, losses and metrics with a head for each task or, with `specs`, each candidate.

    A candidate's critic learns from imagination alone, a task's also from the rows it played.
    """
    batch = mixture.batch
    post, losses, metrics = expected_world(agent, batch, cfg)
    if specs:
        losses["features"] = cfg.features * agent.features.error(post.x, mixture.feature)
    seen = post if cfg.reward_grad == "all" else post.detach()
    for k, name in enumerate(agent.heads):
        part, spec = agent.heads[name], specs[k] if specs else None
        by_features = spec and cfg.imagined == "features"
        imagined = Imagined(agent.features, spec) if by_features else part.reward
        rows = batch._replace(reward=mixture.reward[k])
        expected = expected_part(agent, part, seen, rows, cfg, reward=imagined)
        error = expected_reward(part, seen, rows.reward)
        losses[f"{name}/reward"] = expected_mean(error, mixture.known[k])
        losses[f"{name}/actor"], losses[f"{name}/critic"] = expected.actor, expected.critic
        if not specs:
            mine = (mixture.task == k)[:, None]
            losses[f"{name}/replay_critic"] = expected_mean(expected.replay_critic, mine)
        own = {"value": expected.value, "return": expected.returns}
        own |= {"return_scale": expected.scale, "entropy": expected.entropy}
        metrics |= {f"{name}/{key}": value for key, value in own.items()}
    return post, losses, metrics


def expected_instructed(agent, mixture, rewards, saved, cfg, step):
    """Losses of an update of `instruct.py`; `rewards` are the expressions of its phrases."""
    batch, ratio = mixture.batch, cfg.gamma / saved.gamma
    post = expected_world(agent, batch, saved)[0].detach()
    losses = {"features": agent.features.error(post.x, mixture.feature)}
    cont = SimpleNamespace(number=lambda x: ratio * agent.cont.number(x))
    for name, function in rewards.items():
        part, known = agent.heads[name], torch.ones_like(batch.is_first)
        known[:, 0] = batch.is_first[:, 0]  # unknown if the row before is not in the window
        reward = torch.where(known & ~batch.is_first, function(mixture.feature), 0.0)
        losses[f"{name}/reward"] = expected_mean(expected_reward(part, post, reward), known)
        by_features = cfg.imagined == "features"
        imagined = Imagined(agent.features, function) if by_features else part.reward
        expected = expected_part(agent, part, post, batch, saved, reward=imagined, cont=cont)
        losses |= {f"{name}/critic": expected.critic} if step >= cfg.fit else {}
        losses |= {f"{name}/actor": expected.actor} if step >= cfg.fit + cfg.settle else {}
    return losses


def check_update(agent, update, losses, trained=None, followed=None):
    """Compare an update with one step of gradient descent on the sum of the mean losses.

    Old gradients must not count. Slow critics move once, towards the critics after the step. All
    other parameters stay.

    Args:
        agent: with its scripted parts.
        update: takes an optimiser.
        losses: the expected ones, from before the update.
        trained: the parameters of the optimiser; default: all.
        followed: the heads whose slow critics move; default: all.
    """
    heads = list(agent.heads.parts.values()) if hasattr(agent, "heads") else [agent]
    heads = heads if followed is None else followed
    trained = list(agent.parameters()) if trained is None else trained
    trained = [p for p in trained if p.requires_grad]
    total = sum(loss.mean() for loss in losses.values())
    steps = torch.autograd.grad(total, trained, allow_unused=True, retain_graph=True)
    expected = {id(p): p.detach().clone() for p in agent.parameters()}
    for parameter, step in zip(trained, steps, strict=True):
        expected[id(parameter)] -= 0.0 if step is None else step
    for part in heads:
        pairs = zip(part.slow_value.parameters(), part.value.parameters(), strict=True)
        for slow, fast in pairs:
            expected[id(slow)] = (1 - RATE) * slow.detach() + RATE * expected[id(fast)]
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 7.0)
    found = update(torch.optim.SGD(trained, lr=1.0))
    for name, parameter in agent.named_parameters():
        close(parameter.detach(), expected[id(parameter)], name)
    return found


def close(ours, expected, name):
    size = expected.abs().max().clamp(min=1.0)
    gap = (ours.double() - expected.double()).abs().max() / size
    assert gap < 2e-5, f"{name} is {ours.tolist()} and should be {expected.tolist()}"


def check_result(found, post, losses, metrics):
    """Compare the states and the mean metrics that an update returns."""
    states, ours = found
    assert not states.x.requires_grad
    close(states.x, post.x.detach(), "states")
    expected = metrics | {f"loss/{name}": loss for name, loss in losses.items()}
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        close(value, expected[name].detach().mean(), name)


def moves(agent, optimizer, update, *modules):
    """Check that a few updates move every parameter of some modules, and no other."""
    for group in optimizer.param_groups:
        group["warmup"] = 0
    before = copy.deepcopy(agent)
    for _ in range(3):  # layers below a last layer of zeros get no gradient at first
        update()
    expected = {id(p) for module in modules for p in module.parameters()}
    for (name, new), old in zip(agent.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(new, old) is (id(new) not in expected), name

"""One update of a scripted agent by plain loops in float64, and whether a recipe's is the same."""

import copy
import math
from types import SimpleNamespace

import torch
from scripted_world import RATE

from worldblocks.testing.agent.scripted import Place, expected_losses


def expected_world(agent, batch, cfg):
    """States, losses and metrics of the world; γ is in the continue head, a time limit is alive."""
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior, posterior = agent.rssm.prior(post.x), agent.rssm.posterior(post)
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
    """A loss whose mean is that over some of its rows; 0 where there is none."""
    kept = rows.expand_as(loss)
    return torch.where(kept, loss, 0.0) * kept.numel() / max(1, int(kept.sum()))


def expected_part(agent, part, post, batch, cfg, reward=None, cont=None):
    """`expected_losses` of one head, and how an agent's parts are found for it."""
    one = SimpleNamespace(rssm=agent.rssm, cont=cont or agent.cont, actor=part.actor)
    one.reward, one.value = reward or part.reward, part.value
    one.slow_value, one.return_scale = part.slow_value.copy, part.return_scale
    first = len(batch.reward[0]) - (cfg.imag_last or len(batch.reward[0]))  # row of imagination
    rows = {name: getattr(batch, name)[:, first:] for name in ("reward", "is_last", "is_terminal")}
    return expected_losses(one, Place(post.x[:, first:]), SimpleNamespace(**rows), cfg)


class Imagined:
    """The reward that predicted features have."""

    def __init__(self, features, wanted):
        self.features, self.wanted = features, wanted

    def number(self, x):
        return self.wanted(self.features.predicted(x))


def expected_reward(part, post, reward):
    return (part.reward.number(post.x.double()) - reward.double()) ** 2


def expected_single(agent, batch, cfg):
    """Losses and metrics of an update of the agent of one task."""
    post, losses, metrics = expected_world(agent, batch, cfg)
    losses["reward"] = expected_reward(agent, post, batch.reward)
    told = expected_part(agent, agent, post, batch, cfg)
    losses |= {"actor": told.actor, "critic": told.critic, "replay_critic": told.replay_critic}
    advantage = (told.returns - told.value[:, :-1]) / told.scale
    metrics |= {"reward": told.reward, "continue": told.cont, "value": told.value}
    metrics |= {"return": told.returns, "return_scale": told.scale}
    metrics |= {"return_min": told.returns.min(), "return_max": told.returns.max()}
    metrics |= {"advantage_abs": advantage.abs(), "policy_entropy": told.entropy}
    return post, losses, metrics


def expected_several(agent, mixture, cfg, specs=None):
    """Losses and metrics of an update with a head for each task, or (`specs`) each candidate.

    A candidate's critic learns from imagination alone; a task's from the rows that it played too.
    """
    batch = mixture.batch
    post, losses, metrics = expected_world(agent, batch, cfg)
    if specs:
        losses["features"] = cfg.features * agent.features.error(post.x, mixture.feature)
    seen = post if cfg.reward_grad == "all" else post.detach()
    for k, name in enumerate(agent.heads):
        part, wanted = agent.heads[name], specs[k] if specs else None
        by_features = wanted and cfg.imagined == "features"
        imagined = Imagined(agent.features, wanted) if by_features else part.reward
        own = batch._replace(reward=mixture.reward[k])
        told = expected_part(agent, part, seen, own, cfg, reward=imagined)
        error = expected_reward(part, seen, own.reward)
        losses[f"{name}/reward"] = expected_mean(error, mixture.known[k])
        losses[f"{name}/actor"], losses[f"{name}/critic"] = told.actor, told.critic
        if not specs:
            mine = (mixture.task == k)[:, None]
            losses[f"{name}/replay_critic"] = expected_mean(told.replay_critic, mine)
        metrics[f"{name}/value"], metrics[f"{name}/return"] = told.value, told.returns
        metrics[f"{name}/return_scale"], metrics[f"{name}/entropy"] = told.scale, told.entropy
    return post, losses, metrics


def expected_instructed(agent, mixture, rewards, saved, cfg, step):
    """Losses of an update of `instruct.py`, with the expressions of its phrases."""
    batch, ratio = mixture.batch, cfg.gamma / saved.gamma
    post = expected_world(agent, batch, saved)[0].detach()
    losses = {"features": agent.features.error(post.x, mixture.feature)}
    cont = SimpleNamespace(number=lambda x: ratio * agent.cont.number(x))
    for name, wanted in rewards.items():
        part, known = agent.heads[name], torch.ones_like(batch.is_first)
        known[:, 0] = batch.is_first[:, 0]  # else the row before is not there
        reward = torch.where(known & ~batch.is_first, wanted(mixture.feature), 0.0)
        losses[f"{name}/reward"] = expected_mean(expected_reward(part, post, reward), known)
        by_features = cfg.imagined == "features"
        imagined = Imagined(agent.features, wanted) if by_features else part.reward
        told = expected_part(agent, part, post, batch, saved, reward=imagined, cont=cont)
        losses |= {f"{name}/critic": told.critic} if step >= cfg.fit else {}
        losses |= {f"{name}/actor": told.actor} if step >= cfg.fit + cfg.settle else {}
    return losses


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


def moves(agent, optimizer, update, *modules):
    """Exactly the parameters of some modules move in a few updates, each of them."""
    for group in optimizer.param_groups:
        group["warmup"] = 0
    before = copy.deepcopy(agent)
    for _ in range(3):  # a head whose last layer begins at zeros trains nothing below it at first
        update()
    wanted = {id(p) for module in modules for p in module.parameters()}
    for (name, new), old in zip(agent.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(new, old) is (id(new) not in wanted), name

"""Losses and updates of the recipes without a world model, against plain loops."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from expected_updates import check_update, close
from scripted_world import weights
from torch import nn

import glam_policy
import vae
import worldblocks as wb

# --------------------------------------------------------------------------------------- vae


class Autoencoder(nn.Module):
    """An autoencoder of vectors of 6 numbers, with a latent of 3."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Module(), Decoder()
        self.encoder.middle, self.encoder.width = weights(6, 3), weights(6, 3, start=0.4, end=-0.3)
        self.encoder.posterior = self.posterior

    def posterior(self, frames):
        mean, width = frames @ self.encoder.middle, (frames @ self.encoder.width).exp()
        return wb.distributions.Normal(mean, width, event=1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.show = weights(3, 6)

    def error(self, latent, frames):
        return (latent @ self.show - frames).square().sum(-1)

    def forward(self, latent):
        return SimpleNamespace(nll=lambda frames: self.error(latent, frames))


VAE = dataclasses.replace(vae.PRESETS["smoke"], kl=0.3, batch=3)


def expected_vae(model, frames, noise):
    """0.3 KL(N(m, s²) || N(0, 1)) and the error of m + s * noise, decoded."""
    posterior = model.posterior(frames)
    m, s = posterior.mean, posterior.std
    kl = 0.5 * (m**2 + s**2 - 1 - torch.log(s**2)).sum(-1)
    return {"reconstruction": model.decoder.error(m + s * noise, frames), "kl": 0.3 * kl}


def test_an_update_of_the_autoencoder():
    model, frames = Autoencoder(), torch.randn(5, 6)
    torch.manual_seed(3)
    losses = expected_vae(model, frames, torch.randn(5, 3))
    torch.manual_seed(3)
    update = lambda by: vae.update(model, by, frames, VAE)  # noqa: E731
    metrics = check_update(model, update, losses, followed=[])
    assert metrics.keys() == {"loss/reconstruction", "loss/kl"}
    for name, loss in losses.items():
        close(metrics[f"loss/{name}"], loss.mean(), name)


def test_held_out_frames_weigh_the_same_in_batches_of_any_size():
    model, frames = Autoencoder(), torch.randn(5, 6)
    torch.manual_seed(3)
    noise = torch.cat([torch.randn(3, 3), torch.randn(2, 3)])
    torch.manual_seed(3)
    metrics = vae.judge(model, frames, VAE)
    assert metrics.keys() == {"held_out/reconstruction", "held_out/kl"}
    for name, loss in expected_vae(model, frames, noise).items():
        close(metrics[f"held_out/{name}"], loss.mean().detach(), name)


@pytest.mark.parametrize(("error", "kind"), [("l1", "SigmoidImageL1"), ("l2", "SigmoidImageMSE")])
def test_the_pixel_error_is_configurable(error, kind):
    cfg = dataclasses.replace(VAE, reconstruction=error)
    model, _ = vae.build(cfg, {"image": wb.spaces.Image(48, 48, 2)})
    assert model.decoder.output is getattr(wb.distributions, kind)


# ------------------------------------------------------------------------------- glam_policy

PPO = dataclasses.replace(
    glam_policy.PRESETS["smoke"], clip=0.2, value=0.7, entropy=0.3, gamma=0.9, lam=0.75
)


class Reader(nn.Module):
    """A policy and values for prompts that are one digit."""

    def __init__(self):
        super().__init__()
        self.choice, self.worth = weights(10, 4, start=-2.0, end=2.5), weights(10, start=-1, end=2)
        self.choice.data = self.choice.data.flatten()[torch.randperm(40)].view(10, 4)
        self.value = [SimpleNamespace(weight=self.worth)]

    def forward(self, prompts):
        rows = torch.tensor([int(prompt) for prompt in prompts])
        return wb.language.policy.Judged(self.choice[rows], self.worth[rows])


class PolicyAgent(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = Reader()


def rollout(policy, n=10):
    """Rows with ratios and values inside the clip range, and outside on either side."""
    prompts, action = [str(k) for k in range(n)], nn.functional.one_hot(torch.arange(n) % 4, 4)
    judged = policy(prompts)
    log_prob = (judged.logits.log_softmax(-1) * action).sum(-1).detach()
    shift = torch.tensor([0.0, 0.1, -0.1, 0.5, -0.3]).repeat(2)
    value = judged.value.detach() + shift.flip(0)
    target = torch.linspace(-2, 3, n)
    advantage = torch.linspace(2, -2.2, n)
    return glam_policy.Rollout(prompts, action.float(), log_prob + shift, value, advantage, target)


def expected_ppo(policy, part, cfg):
    """Losses and metrics of rows of a rollout, row by row."""
    judged = policy(part.prompt)
    log_probs = judged.logits - judged.logits.exp().sum(-1, keepdim=True).log()
    found = {name: [] for name in ("policy", "value", "entropy")}
    log_prob = (log_probs * part.action).sum(-1)
    for i, value in enumerate(judged.value):
        ratio, gain = (log_prob[i] - part.log_prob[i]).exp(), part.advantage[i]
        near = torch.clamp(ratio, 1 - cfg.clip, 1 + cfg.clip)
        found["policy"].append(-min(ratio * gain, near * gain))
        low, high = part.value[i] - cfg.clip, part.value[i] + cfg.clip
        errors = [(x - part.target[i]) ** 2 for x in (value, torch.clamp(value, low, high))]
        found["value"].append(cfg.value * max(errors))
        found["entropy"].append(cfg.entropy * (log_probs[i].exp() * log_probs[i]).sum())
    losses = {name: torch.stack(loss) for name, loss in found.items()}
    metrics = {"policy_entropy": -losses["entropy"] / cfg.entropy, "value": part.value}
    metrics |= {"return": part.target, "kl": part.log_prob - log_prob}
    return losses, metrics | {"advantage_abs": part.advantage.abs()}


@pytest.mark.parametrize("max_norm", [0.05, 100.0])
def test_an_update_of_the_policy(max_norm):
    agent, cfg = PolicyAgent(), dataclasses.replace(PPO, max_norm=max_norm)
    part = rollout(agent.policy)
    losses, metrics = expected_ppo(agent.policy, part, cfg)
    total = sum(loss.mean() for loss in losses.values())
    steps = torch.autograd.grad(total, list(agent.parameters()), retain_graph=True)
    norm = torch.cat([step.flatten() for step in steps]).norm()
    assert bool(norm > max_norm) is (max_norm < 1)
    scaled = {name: loss * (max_norm / norm).clamp(max=1) for name, loss in losses.items()}
    update = lambda by: glam_policy.update(agent, by, part, cfg)  # noqa: E731
    found = check_update(agent, update, scaled, followed=[])
    expected = {**metrics, "grad_norm": norm}
    expected |= {f"loss/{name}": loss for name, loss in losses.items()}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        close(value, expected[name].detach().mean(), name)


def test_passes_over_a_rollout(monkeypatch):
    """Each pass takes each row once, in batches, in a new order; rows stay together."""
    agent, parts = PolicyAgent(), []
    cfg = dataclasses.replace(PPO, epochs=3, batch=4)
    monkeypatch.setattr(glam_policy, "update", lambda *given: parts.append(given) or len(parts))
    whole = rollout(agent.policy)
    assert list(glam_policy.learn(agent, "by", whole, cfg)) == [*range(1, 10)]
    assert all(given[:2] == (agent, "by") and given[3] is cfg for given in parts)
    assert [len(given[2].prompt) for given in parts] == [4, 4, 2] * 3
    rows = [int(prompt) for given in parts for prompt in given[2].prompt]
    passes = [rows[k : k + 10] for k in (0, 10, 20)]
    assert all(sorted(one) == [*range(10)] for one in passes)
    assert passes[0] != passes[1] != passes[2]
    for given in parts:
        order = torch.tensor([int(prompt) for prompt in given[2].prompt])
        for ours, theirs in zip(given[2][1:], whole[1:], strict=True):
            assert torch.equal(ours, theirs[order])


class Stream:
    """Two environments: one is terminal at row 2, the other reaches a time limit at row 3."""

    reward = torch.tensor([[9.0, 0.5, 1.0, 9.0, 0.25, 0.0], [9.0, 0.1, 0.2, 0.3, 9.0, 1.0]])
    is_last = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]).bool()
    is_terminal = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    prompts = torch.tensor([[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]])

    def __init__(self):
        self.t, self.done = 0, []

    @property
    def rows(self):
        obs = {"prompt": self.prompts[:, self.t, None] + ord("0")}
        flags = (x[:, self.t] for x in (self.is_last, self.is_last, self.is_terminal))
        return wb.envs.Rows(obs, torch.zeros(2, 3), self.reward[:, self.t], *flags)

    def step(self, action):
        self.t, self.done = self.t + 1, [*self.done, action]
        return self.rows


def test_a_rollout_of_two_environments():
    agent, envs, played = PolicyAgent(), Stream(), []
    cfg = dataclasses.replace(PPO, envs=2, rollout=5, reward_scale=2.0)
    found = glam_policy.collect(agent, envs, cfg, lambda: played.append(envs.t))
    assert played == [1, 2, 3, 4, 5], "the last row is only observed; the next rollout acts there"
    value = agent.policy.worth.detach()[envs.prompts]
    logits = agent.policy.choice.detach()
    rows = []
    for env in range(2):
        after, steps = 0.0, []
        for t in reversed(range(5)):
            live = cfg.gamma * (not envs.is_terminal[env, t + 1])
            keep = cfg.lam * (not envs.is_last[env, t + 1])
            delta = 2.0 * envs.reward[env, t + 1] + live * value[env, t + 1] - value[env, t]
            after = float(delta + live * keep * after)
            steps.append((env, t, after))
        rows += [row for row in steps[::-1] if not envs.is_last[env, row[1]]]
    assert found.prompt == [str(int(envs.prompts[env, t])) for env, t, _ in rows]
    for i, (env, t, advantage) in enumerate(rows):
        assert torch.equal(found.action[i], envs.done[t][env])
        chosen = logits[int(found.prompt[i])].log_softmax(-1)[found.action[i].argmax()]
        expected = [chosen, value[env, t], advantage, advantage + value[env, t]]
        ours = torch.stack([part[i] for part in found[2:]])
        close(ours, torch.tensor([float(x) for x in expected]), f"row {t} of environment {env}")
    assert not math.isnan(sum(x.sum() for x in found[1:]))
    assert not any(x.requires_grad for x in found[1:])


def test_act_draws_a_sample_or_takes_the_mode():
    agent, obs, carry = (
        PolicyAgent(),
        {"prompt": torch.arange(10)[:, None] + ord("0")},
        torch.zeros(10, 0),
    )
    first = torch.zeros(10, dtype=torch.bool)
    mode, after = glam_policy.act(agent, obs, carry, first, mode=True)
    assert after is carry
    assert torch.equal(mode.argmax(-1), agent.policy.choice.argmax(-1))
    drawn = [glam_policy.act(agent, obs, carry, first)[0].argmax(-1) for _ in range(300)]
    shares = nn.functional.one_hot(torch.stack(drawn), 4).float().mean(0)
    torch.testing.assert_close(shares, agent.policy.choice.detach().softmax(-1), atol=0.12, rtol=0)

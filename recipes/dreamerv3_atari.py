"""DreamerV3 on Atari: the whole algorithm in one file, to be read from top to bottom.

Mastering Diverse Domains through World Models, Hafner et al. (arXiv:2301.04104), following the
authors' code (2024 and later).

    python recipes/dreamerv3_atari.py cpu                      a small agent, about ten minutes
    python recipes/dreamerv3_atari.py atari100k --game boxing  a GPU; published score at 400k
                                                               frames: 82 (5 seeds)
    python recipes/dreamerv3_atari.py atari --game pong        a GPU and days; 200M frames

A run folder holds config, metrics, curve, open-loop videos and a checkpoint. `--resume` continues
the run exactly, and `recipes/evaluate.py RUN` plays it.

Extras: atari.
"""

import dataclasses
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import nn

import worldblocks as wb
from worldblocks.run import Discount, NonNegative, Positive, Seed, Share, at_least, inside


@dataclass(frozen=True, kw_only=True)
class Config:
    game: str = "boxing"  # any game of the Arcade Learning Environment
    steps: NonNegative[int] = 110_000  # actions; each lasts `repeat` frames (environment steps)
    logdir: str = ""  # run folder; default logs/<preset>-<game>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir exactly
    device: str = "auto"  # cuda if available
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Environments
    envs: Positive[int] = 1
    workers: bool = True  # one process each, restarted if it crashes
    image: int = 64  # side in pixels
    gray: bool = False
    repeat: Positive[int] = 4  # frames per action
    sticky: Share = 0.0  # probability that a frame repeats the previous action
    noops: NonNegative[int] = 30  # maximum number of no-ops that open an episode
    full_actions: bool = False  # all 18 actions, not only those the game uses
    timeout_is_terminal: bool = True  # the reference's quirk: a time limit ends the return

    # Replay
    capacity: Positive[int] = 5_000_000  # maximum number of window starts
    batch: Positive[int] = 16
    length: Annotated[int, at_least(2)] = 64  # rows per window; one more gives its initial carry
    train_ratio: NonNegative[float] = 256.0  # rows trained on per action
    prefill: Positive[int] = 1024  # window starts in replay before the first update

    # Sizes: 64 units are 1M parameters, 256 12M, 384 25M, 512 50M, 768 100M, 1024 200M, 1536 400M
    units: Positive[int] = 1024
    hidden: Positive[int] | None = None  # default: units
    deter: Positive[int] | None = None  # default: 8 * units
    classes: Positive[int] | None = None  # default: units / 16
    depth: Positive[int] | None = None  # default: units / 16
    groups: Positive[int] = 32
    blocks: Positive[int] = 8

    # Learning
    horizon: Positive[int] = 15  # imagination steps
    imag_last: NonNegative[int] = 0  # imagine only from this many last rows of a window; 0: all
    recompute: NonNegative[int] = 0  # gradient checkpointing in chunks of this many rows; 0: off
    gamma: Discount = 1 - 1 / 333
    lam: Share = 0.95
    slow_rate: Annotated[float, inside(0, 0.5, also=1)] = 0.02  # EMA weight of the critic per step
    entropy: NonNegative[float] = 3e-4
    actor_grad: Literal["reinforce", "dynamics", "mix"] = "reinforce"  # dynamics: through the world
    mix: Share = 0.9  # weight of REINFORCE in "mix"
    reconstruction: NonNegative[float] = 1.0  # weight of this loss; more for small images or values
    return_floor: Positive[float] = 1.0  # lower bound of the scale that divides advantages
    lr: NonNegative[float] = 4e-5
    warmup: NonNegative[int] = 1000
    agc: NonNegative[float] = 0.3

    # Logging
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 1000  # actions between lines of metrics
    video_every: NonNegative[int] = 25_000
    save_every: NonNegative[int] = 10_000
    report_steps: Annotated[int, at_least(wb.diagnose.FEWEST, also=0)] = 0  # held-out rows; 0: none

    def __post_init__(self):
        wb.run.check_options(self)
        if self.prefill > self.capacity:
            raise ValueError(
                f"training starts after {self.prefill} windows, but replay holds only "
                f"{self.capacity}: use a smaller --prefill or a larger --capacity"
            )
        if self.imag_last and not 2 <= self.imag_last <= self.length:
            raise ValueError(
                f"--imag-last takes 2 to {self.length} rows of a window (--length), or 0 for all "
                f"of them, got {self.imag_last}"
            )


PRESETS = {
    "atari100k": Config(),
    "atari": Config(
        game="pong",
        steps=51_000_000,
        envs=16,
        image=96,
        gray=True,
        sticky=0.25,
        full_actions=True,
        train_ratio=32.0,
        video_every=1_000_000,
        save_every=500_000,
    ),
    "cpu": Config(
        game="gopher",
        steps=5500,
        device="cpu",
        bf16=False,
        envs=4,
        image=48,
        timeout_is_terminal=False,
        capacity=100_000,
        batch=8,
        length=8,
        train_ratio=32.0,
        units=64,
        deter=256,
        classes=8,
        groups=16,
        depth=8,
        horizon=5,
        gamma=0.95,
        entropy=3e-2,
        lr=1e-3,
        warmup=100,
        video_every=2000,
        save_every=2000,
        report_steps=4000,
    ),
    "smoke": Config(
        steps=256,
        device="cpu",
        bf16=False,
        envs=2,
        workers=False,
        sticky=0.25,
        capacity=1000,
        batch=2,
        length=8,
        train_ratio=1.0,
        prefill=64,
        units=16,
        deter=32,
        classes=4,
        groups=4,
        depth=2,
        horizon=3,
        log_every=64,
        video_every=128,
        save_every=128,
    ),
}


class Agent(nn.Module):
    """The modules; the training code is below."""

    def __init__(self, observation: wb.spaces.Spaces, action: wb.spaces.Actions, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.action_size = wb.spaces.action_size(action)
        units, deter = cfg.units, cfg.deter or 8 * cfg.units
        classes, depth = cfg.classes or units // 16, cfg.depth or units // 16
        self.encoder = wb.encoders.dreamer_encoder(observation, depth=depth, units=units)
        self.rssm = wb.rssm.dreamer_rssm(
            embed_dim=self.encoder.embed_dim,
            action_dim=self.action_size,
            deter=deter,
            hidden=cfg.hidden or units,
            groups=cfg.groups,
            classes=classes,
            blocks=cfg.blocks,
            unimix=0.01,
            recompute=cfg.recompute,
        )
        self.decoder = wb.decoders.dreamer_decoder(
            observation, deter=deter, stoch=self.rssm.part_dims[1], depth=depth, units=units
        )
        feature = self.rssm.feature_dim
        self.reward = wb.heads.TwoHotHead(feature, units=units, layers=1)
        self.cont = wb.heads.BinaryHead(feature, units=units, layers=1)
        self.actor = wb.heads.ActorHead(feature, action, units=units, layers=3)
        self.value = wb.heads.TwoHotHead(feature, units=units, layers=3)
        self.slow_value = wb.ema.SlowCopy(self.value, rate=cfg.slow_rate)
        self.return_scale = wb.normalize.PercentileScale(0.01, 5, 95, floor=cfg.return_floor)

    def initial(self, n: int):
        """The `acting` of `act` before the first row: dynamics carry and previous action."""
        action = torch.zeros(n, self.action_size, device=wb.run.device_of(self))
        return wb.rssm.Acting(self.rssm.initial(n), action)


def world_model_loss(agent, batch, cfg):
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior, posterior = agent.rssm.prior(post), agent.rssm.posterior(post)
    dyn, rep = wb.losses.balanced_kl(posterior, prior, free_nats=1.0)
    feature = post.feature()
    alive = 1.0 - batch.is_terminal.float()  # a time limit (is_last alone) is alive
    losses = {
        "dyn": 1.0 * dyn,
        "rep": 0.1 * rep,
        "obs": cfg.reconstruction * agent.decoder(post).nll(batch.obs),
        "reward": 1.0 * agent.reward(feature).nll(batch.reward),
        "cont": 1.0 * agent.cont(feature).nll(cfg.gamma * alive),  # gamma lives here
    }
    metrics = {"prior_entropy": prior.entropy(), "posterior_entropy": posterior.entropy()}
    return post, losses, metrics


def actor_critic_loss(agent, post, batch, cfg):
    if cfg.imag_last:
        post, batch = post[:, -cfg.imag_last :], batch.last(cfg.imag_last)
    start = post.flatten().detach()  # every posterior is a start: batch * time trajectories
    share = {"reinforce": 1.0, "dynamics": 0.0, "mix": cfg.mix}[cfg.actor_grad]  # of REINFORCE
    world = agent.rssm, agent.reward, agent.cont, agent.value
    with torch.no_grad() if share == 1 else wb.rssm.frozen(*world):  # else: to the actor only
        states, action = wb.rssm.imagine(
            agent.rssm, start, lambda s: agent.actor(s.feature().detach()).sample(), cfg.horizon
        )
        feature = states.feature()  # horizon + 1 rows; action[:, t] is chosen AT states[:, t]
        reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
        boot = None if share == 1 else agent.value(feature).mean
    feature, action = feature.detach(), action.detach()
    value, slow = agent.value(feature), agent.slow_value(feature).mean
    baseline = value.mean.detach()
    boot = baseline if boot is None else boot  # the online critic bootstraps
    returns = wb.returns.lambda_return(reward[:, 1:], cont[:, 1:], boot[:, 1:], cfg.lam)
    target = returns.detach()
    weight = cont.detach().cumprod(1)[:, :-1]  # starts with the cont of row 0
    scale = agent.return_scale(target)  # updated first, then read
    advantage = (returns - baseline[:, :-1]) / scale
    policy = agent.actor(feature)[:, :-1]
    log_prob, entropy = policy.log_prob(action[:, :-1]), policy.entropy()
    gain = share * log_prob * advantage.detach() + (1 - share) * advantage
    losses = {
        "actor": -1.0 * weight * (gain + cfg.entropy * entropy),
        "critic": 1.0 * weight * (value[:, :-1].nll(target) + value[:, :-1].nll(slow[:, :-1])),
        "replay_critic": 0.3 * replay_critic_loss(agent, post, batch, target[:, 0], cfg),
    }
    metrics = {"reward": reward, "continue": cont, "value": baseline, "return": target}
    metrics |= {"return_min": target.min(), "return_max": target.max(), "return_scale": scale}
    metrics |= {"advantage_abs": advantage.abs(), "policy_entropy": entropy}
    return losses, metrics


def replay_critic_loss(agent, post, batch, first_return, cfg):
    """The critic loss on replayed rows; its gradient reaches the encoder and the RSSM."""
    boot = first_return.reshape(batch.reward.shape)  # of the imagined trajectory that starts there
    live = cfg.gamma * (1 - batch.is_terminal.float())
    lam = cfg.lam * (1 - batch.is_last.float())
    target = wb.returns.lambda_return(batch.reward[:, 1:], live[:, 1:], boot[:, 1:], lam[:, 1:])
    value = agent.value(post.feature())[:, :-1]
    slow = agent.slow_value(post.feature().detach()).mean[:, :-1]
    return (1 - batch.is_last.float())[:, :-1] * (value.nll(target) + value.nll(slow))


def update(agent, optimizer, batch, cfg):
    """Train all modules on one batch; returns the posterior states and metrics."""
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        post, losses, metrics = world_model_loss(agent, batch, cfg)
        more_losses, more_metrics = actor_critic_loss(agent, post, batch, cfg)
    losses |= more_losses
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    agent.slow_value.update(agent.value)
    metrics |= more_metrics | {f"loss/{name}": loss for name, loss in losses.items()}
    return post.detach(), {name: metric.detach().mean() for name, metric in metrics.items()}


def sample(agent, replay, size, **options):
    """A batch from replay with its initial carry unpacked."""
    batch = replay.sample(size, **options)
    return batch._replace(carry=agent.rssm.unpack(batch.carry))


def learn(train, agent, replay, size):
    """One update on a batch from replay; writes the new latents back."""
    batch = sample(agent, replay, size)
    post, metrics = train(batch._replace(row=None))
    replay.write_back(batch.row, agent.rssm.pack(post.carry))
    return metrics


def environments(cfg: Config, n: int, seed: int) -> wb.envs.EnvVector:
    make = functools.partial(
        wb.envs.atari,
        cfg.game,
        size=cfg.image,
        gray=cfg.gray,
        repeat=cfg.repeat,
        sticky=cfg.sticky,
        noops=cfg.noops,
        full_actions=cfg.full_actions,
        timeout_is_terminal=cfg.timeout_is_terminal,
    )
    return wb.envs.EnvVector([make] * n, seed=seed, workers=cfg.workers)


def build(cfg: Config, observation: wb.spaces.Spaces, action: wb.spaces.Actions):
    """A new agent and one optimiser for all its parameters."""
    agent = Agent(observation, action, cfg).to(wb.run.pick_device(cfg.device))
    optimizer = wb.optim.dreamer_optimizer(
        agent.parameters(), lr=cfg.lr, agc=cfg.agc, warmup=cfg.warmup
    )
    return agent, optimizer


def load(run: str | Path, device: str = "auto"):
    """The trained agent in a run folder and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    envs = environments(dataclasses.replace(cfg, workers=False), 1, cfg.seed)
    agent, _ = build(cfg, envs.observation, envs.action)
    envs.close()
    wb.run.load_agent(agent, run, envs)
    return agent.eval(), cfg


@torch.no_grad()
def act(agent, obs, acting, is_first, mode: bool = False):
    """One action per environment: `(action, acting)`; `mode` takes the policy's mode."""
    device = wb.run.device_of(agent)
    obs = {key: value.to(device) for key, value in obs.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=agent.cfg.bf16):
        embed, is_first = agent.encoder(obs), is_first.to(device)
        state = agent.rssm.observe_step(acting.dynamics, embed, acting.prev_action, is_first)
        policy = agent.actor(state.feature())
    action = policy.mode if mode else policy.sample()
    return action, wb.rssm.Acting(state.carry, action)


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    envs = environments(cfg, cfg.envs, cfg.seed)
    agent, optimizer = build(cfg, envs.observation, envs.action)
    train = wb.run.Captured(functools.partial(update, agent, optimizer, cfg=cfg))  # one CUDA graph
    replay = wb.replay.SequenceReplay(
        capacity=cfg.capacity,
        streams=cfg.envs,
        length=cfg.length,
        context=agent.rssm.context,
        seed=cfg.seed,
        device=wb.run.device_of(agent),
    )
    train_ratio = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
    log, video, save = map(wb.run.Every, (cfg.log_every, cfg.video_every, cfg.save_every))
    parts = {"agent": agent, "optimizer": optimizer, "envs": envs, "replay": replay}
    parts |= {"train_ratio": train_ratio, "log": log, "video": video, "save": save}
    envs.reset()
    with wb.run.Run(cfg, __file__, parts, may_change=["report_steps"]) as run:
        start = {"step": 0, "updates": 0, "acting": agent.initial(cfg.envs)}
        step, updates, acting = run.restore(**start).values()
        rows, frames = envs.rows, wb.diagnose.LENGTH  # in a video
        while not run.must_stop(envs.stopped) and step < cfg.steps:
            action, acting = act(agent, rows.obs, acting, rows.is_first)
            packed = agent.rssm.pack(acting.dynamics)
            replay.add(**rows._asdict(), carry=packed)
            step += cfg.envs
            envs.send(action)  # workers step while the agent learns
            for _ in range(train_ratio(step) if len(replay) >= cfg.prefill else 0):
                run.logger.add(learn(train, agent, replay, cfg.batch))
                updates += 1
            rows = envs.receive()
            run.logger.played(step, envs.finished, envs.failures)
            if video(step) and updates and agent.encoder.picture_keys and replay.holds(frames):
                batch = sample(agent, replay, 4, length=frames)
                run.logger.video(step, "open_loop", wb.diagnose.open_loop_video(agent, batch))
            if log(step):
                run.log(step, updates=updates, episodes=run.logger.episodes)
            if save(step):
                run.save(step=step, updates=updates, acting=acting)
            run.show(step, updates)
        completed = run.finish(step=step, updates=updates, acting=acting)
        envs.close()
        wb.run.plot_curve(run.folder)
        if completed and cfg.report_steps:
            held_out = environments(cfg, 4, cfg.seed + 1_000_000)
            seen = sample(agent, replay, 64) if len(replay) else None
            report = wb.diagnose.report(
                run.folder, agent, act, held_out, steps=cfg.report_steps, gamma=cfg.gamma, seen=seen
            )
            print(report)
    print(f"play it with:\n  {run.command('evaluate.py')}")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="game", compare=wb.evaluate.compare))

"""A world model on a fixed data set: no environment while it trains, no policy.

The world model of DreamerV3, Hafner et al. (arXiv:2301.04104), on recorded episodes: a folder of
npz files, one for each episode, as `wb.replay.write_npz` writes them (see docs/data.md).

    python recipes/world_model.py cpu --make-data data/pendulum    random play in a minute
    python recipes/world_model.py cpu --data data/pendulum         minutes on two cores
    python recipes/world_model.py gpu --data data/robot            your own

Observations may be images, vectors and boards (`--grids`); what they are is read from the data. The
last episodes are held out. Writes the losses on both and, at the end, `open_loop.gif`: held-out
episodes of which the model sees a few rows and imagines the rest from the actions (`open_loop.png`
for vectors).

Extras: gym.
"""

import functools
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import nn
from torch.nn.functional import one_hot
from torch.utils import _pytree as pytree

import worldblocks as wb
from worldblocks.run import Discount, NonNegative, Positive, Seed, at_least


@dataclass(frozen=True, kw_only=True)
class Config:
    data: str = ""  # folder of npz files, one for each episode
    steps: NonNegative[int] = 100_000  # updates
    logdir: str = ""  # run folder; default logs/<preset>-<data>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir exactly
    device: str = "auto"  # cuda if available
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Data
    grids: str = "{}"  # classes of the uint8 arrays that are boards or maps, by key, as JSON
    held_out: Positive[int] | None = None  # last episodes by name, never trained on; default: a
    # fifth of them, at most 20
    judged: Positive[int] = 64  # held-out windows whose losses are logged
    make_data: str = ""  # a new folder: write `rows` rows of random play in `env` there, and stop
    rows: Positive[int] = 20_000
    env: str = "Pendulum-v1"  # a gymnasium id, or module:factory
    env_args: str = "{}"  # keyword arguments for the environment, as JSON
    pixels: bool = True  # record rendered images instead of the environment's observations
    image: Positive[int] | None = None  # side in pixels; default: as observed, rendered images 64

    # Windows
    batch: Positive[int] = 16
    length: Annotated[int, at_least(2)] = 64  # rows per window

    # Sizes: 64 units are 1M parameters, 256 12M, 384 25M, 512 50M, 768 100M, 1024 200M, 1536 400M
    units: Positive[int] = 256
    hidden: Positive[int] | None = None  # default: units
    deter: Positive[int] | None = None  # default: 8 * units
    classes: Positive[int] | None = None  # default: units / 16
    depth: Positive[int] | None = None  # default: units / 16
    groups: Positive[int] = 32
    blocks: Positive[int] = 8

    # Learning
    recompute: NonNegative[int] = 0  # gradient checkpointing in chunks of this many rows; 0: off
    gamma: Discount = 1 - 1 / 333  # is part of what `cont` predicts
    reconstruction: NonNegative[float] = (
        1.0  # weight of this loss; small images and small values need more
    )
    lr: NonNegative[float] = 4e-5
    warmup: NonNegative[int] = 1000
    agc: NonNegative[float] = 0.3

    # Logging
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 500  # updates between lines of metrics
    save_every: NonNegative[int] = 5000

    def __post_init__(self):
        wb.run.check_options(self)


PRESETS = {
    "gpu": Config(),
    "cpu": Config(
        steps=2000,
        device="cpu",
        bf16=False,
        rows=10_000,
        image=48,
        length=16,
        units=64,
        deter=128,
        classes=8,
        groups=8,
        depth=4,
        lr=1e-3,
        warmup=100,
        log_every=100,
        save_every=500,
    ),
    "smoke": Config(
        steps=40,
        device="cpu",
        bf16=False,
        judged=4,
        rows=400,
        env="worldblocks.testing:Catch",
        env_args='{"cells": 24}',
        pixels=False,
        batch=4,
        length=8,
        units=16,
        deter=32,
        classes=4,
        groups=4,
        depth=2,
        lr=1e-3,
        warmup=10,
        log_every=10,
        save_every=20,
    ),
}


class Agent(nn.Module):
    """The modules; the training code is below."""

    def __init__(self, observation: wb.spaces.Spaces, action_size: int, cfg: Config):
        super().__init__()
        self.observation = observation  # recorded in the run's folder, with the actions
        self.action: wb.spaces.Actions = {"action": wb.spaces.Continuous((action_size,))}
        units, deter = cfg.units, cfg.deter or 8 * cfg.units
        classes, depth = cfg.classes or units // 16, cfg.depth or units // 16
        self.encoder = wb.encoders.dreamer_encoder(observation, depth=depth, units=units)
        self.rssm = wb.rssm.dreamer_rssm(
            embed_dim=self.encoder.embed_dim,
            action_dim=action_size,
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


def update(agent, optimizer, batch, cfg):
    """Train all modules on one batch; returns metrics."""
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        _, losses, metrics = world_model_loss(agent, batch, cfg)
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
    return {name: metric.detach().mean() for name, metric in metrics.items()}


@torch.no_grad()
def judge(agent, batch, cfg):
    """The losses on held-out windows."""
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        _, losses, _ = world_model_loss(agent, batch, cfg)
    return {f"held_out/{name}": loss.mean() for name, loss in losses.items()}


def drawable(episodes) -> list[wb.replay.Batch]:
    """The first rows of those held-out episodes that are long enough for the open-loop picture."""
    size = wb.diagnose.LENGTH
    long = [episode.map(lambda x: x[:size]) for episode in episodes if len(episode.reward) >= size]
    if not long:
        print(f"no open-loop picture: none of {len(episodes)} held-out episodes has {size} rows")
    return long


def draw(agent, long, folder: Path) -> str:
    """Draw open-loop predictions of up to 4 episodes; returns what was drawn."""
    size, seen = wb.diagnose.LENGTH, wb.diagnose.CONTEXT
    batch = pytree.tree_map(lambda *x: x[0] if x[0] is None else torch.stack(x), *long[:4])
    batch = batch.to(wb.run.device_of(agent))
    if agent.encoder.picture_keys:
        video = wb.diagnose.open_loop_video(agent, batch)
        path = wb.run.write_gif(folder / "open_loop.gif", video)
    else:
        path = plot(agent, batch, folder / "open_loop.png")
    return f"{seen} rows seen, {size - seen} imagined from the actions: {path}"


@torch.no_grad()
def plot(agent, batch, path: Path) -> Path:
    """Plot up to 4 numbers of each observation of the first episode, and their prediction."""
    from matplotlib.figure import Figure

    means, lines = agent.decoder(wb.diagnose.open_loop(agent, batch)).mean, []
    for key, (mean, *_) in means.items():
        real = batch.obs[key][0]
        number = real.is_floating_point()  # else classes: the model gives their probabilities
        real = wb.transforms.symlog(real) if number else one_hot(real, mean.shape[-1]).float()
        name = f"symlog {key}" if number else key
        pairs = zip(real.reshape(len(real), -1).T, mean.reshape(len(real), -1).T, strict=True)
        lines += [(f"{name} {i}", *pair) for i, pair in enumerate(pairs)][:4]
    figure = Figure(figsize=(7, 1.6 * len(lines)), layout="constrained")
    rows = figure.subplots(len(lines), squeeze=False)[:, 0]
    for axes, (name, truth, mean) in zip(rows, lines, strict=True):
        axes.plot(truth.cpu(), color="black", label="truth")
        axes.plot(mean.cpu(), color="tab:orange", label="model")
        axes.axvline(wb.diagnose.CONTEXT - 0.5, color="grey", linestyle=":")  # imagined from here
        axes.set_ylabel(name)
    rows[0].legend()
    figure.savefig(path)
    return path


def make_data(cfg: Config) -> None:
    """Write episodes of a random policy to `cfg.make_data`."""
    arguments = json.loads(cfg.env_args)
    make = functools.partial(wb.envs.gym, cfg.env, pixels=cfg.pixels, size=cfg.image, **arguments)
    envs = wb.envs.EnvVector([make] * 4, seed=cfg.seed)
    policy, rows = wb.evaluate.random_policy(envs, cfg.seed), envs.reset()
    replay = wb.replay.SequenceReplay(capacity=cfg.rows, streams=4, length=1, context=0)
    for _ in range(cfg.rows // 4):
        replay.add(**rows._asdict(), carry=None)
        rows = envs.step(policy(rows))
    envs.close()
    paths = wb.replay.write_npz(cfg.make_data, replay.episodes())
    print(f"{len(paths)} episodes; train on them with --data {shlex.quote(cfg.make_data)}")


def read(cfg: Config):
    """The episodes to train on, those held out, and what is observed."""
    if not cfg.data:
        raise ValueError(
            "--data names the folder of a data set, and none was given; --make-data FOLDER makes "
            "a small one"
        )
    episodes = list(wb.replay.read_npz(cfg.data))
    if len(episodes) < 2:
        raise ValueError(f"{cfg.data} has one episode; two are needed, one of them held out")
    held_out = cfg.held_out or min(max(len(episodes) // 5, 1), 20)
    if held_out >= len(episodes):
        raise ValueError(
            f"--held-out takes 1 to {len(episodes) - 1} of the {len(episodes)} episodes in "
            f"{cfg.data}, got {held_out}"
        )
    observation = wb.replay.observation_spaces(episodes, grids=json.loads(cfg.grids))
    return episodes[:-held_out], episodes[-held_out:], observation


def build(cfg: Config, observation: wb.spaces.Spaces, action_size: int):
    """A new agent and one optimiser for all its parameters."""
    agent = Agent(observation, action_size, cfg).to(wb.run.pick_device(cfg.device))
    optimizer = wb.optim.dreamer_optimizer(
        agent.parameters(), lr=cfg.lr, agc=cfg.agc, warmup=cfg.warmup
    )
    return agent, optimizer


def load(run: str | Path, device: str = "auto"):
    """The trained agent in a run folder and its configuration; reads its data set again."""
    cfg = wb.run.load_config(run, Config, device=device)
    episodes, _, observation = read(cfg)
    agent, _ = build(cfg, observation, episodes[0].prev_action.shape[1])
    wb.run.load_agent(agent, run, agent)
    return agent.eval(), cfg


def main(cfg: Config) -> int:
    if cfg.make_data:
        make_data(cfg)
        return 0
    torch.manual_seed(cfg.seed)
    episodes, held_out, observation = read(cfg)
    agent, optimizer = build(cfg, observation, episodes[0].prev_action.shape[1])
    train = wb.run.Captured(functools.partial(update, agent, optimizer, cfg=cfg))  # one CUDA graph
    replay, apart = (
        wb.replay.SequenceReplay.from_episodes(
            each,
            length=cfg.length,
            seed=cfg.seed,
            device=wb.run.device_of(agent),
            prefetch=False,  # so that the selector's state is that of the windows trained on
        )
        for each in (episodes, held_out)
    )
    del episodes  # replay has a copy
    long = drawable(held_out)
    windows = apart.sample(cfg.judged)._replace(row=None)
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))
    parts = {"agent": agent, "optimizer": optimizer, "log": log, "save": save}
    with wb.run.Run(cfg, __file__, parts) as run:
        start = {"step": 0, "rows": replay.steps, "drawn": replay.selector.state()}
        step, rows, drawn = run.restore(**start).values()
        if rows != replay.steps:
            raise ValueError(
                f"the run was trained on {rows} rows, and {cfg.data} has {replay.steps} now: "
                f"restore its files, or start another run"
            )
        replay.selector.load(drawn)
        figures = {}
        while not run.must_stop() and step < cfg.steps:
            run.logger.add(train(replay.sample(cfg.batch)._replace(row=None)))
            step += 1
            if log(step):
                figures = run.log(step, **judge(agent, windows, cfg))
            if save(step):
                run.save(step=step, rows=rows, drawn=replay.selector.state())
            run.progress.update(step, updates=step, **figures)
        completed = run.finish(step=step, rows=rows, drawn=replay.selector.state())
    if completed and long:
        print(draw(agent, long, run.folder))
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="data"))

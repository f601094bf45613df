"""A variational autoencoder on the frames of an environment: images to a Gaussian latent vector.

Auto-Encoding Variational Bayes, Kingma & Welling (arXiv:1312.6114), as in the first stage of World
Models, Ha & Schmidhuber (arXiv:1803.10122).

    python recipes/vae.py cpu                   the board of Catch, minutes on two cores
    python recipes/vae.py cpu_rgb               rendered CartPole, 64×64 RGB
    python recipes/vae.py rgb --env Acrobot-v1  larger, for a GPU

Frames come from random actions; the last ones are held out. Writes `frames.png` (originals above
reconstructions) and a checkpoint whose encoder can be put in front of a world model.

Extras: gym.
"""

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

import worldblocks as wb
from worldblocks.run import NonNegative, Positive, Seed


@dataclass(frozen=True, kw_only=True)
class Config:
    env: str = "CartPole-v1"  # a gymnasium id, or module:factory
    steps: NonNegative[int] = 100_000  # updates
    logdir: str = ""  # run folder; default logs/<preset>-<env>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir exactly
    device: str = "auto"  # cuda if available
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Frames
    env_args: str = "{}"  # keyword arguments for the environment, as JSON
    pixels: bool = True  # observe rendered images instead of the environment's observations
    image: Positive[int] | None = None  # side in pixels; default: as observed, rendered images 64
    envs: Positive[int] = 8
    frames: Positive[int] = 20_000  # to train on
    held_out: Positive[int] = 1000  # never trained on

    # Sizes
    latent: Positive[int] = 32
    depth: Positive[int] = 32

    # Learning
    reconstruction: Literal["l2", "l1"] = "l2"  # pixel error, summed over an image
    kl: NonNegative[float] = 1.0  # weight of the divergence from the standard normal prior
    batch: Positive[int] = 64
    lr: NonNegative[float] = 3e-4
    warmup: NonNegative[int] = 1000
    agc: NonNegative[float] = 0.3

    # Logging
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 500  # updates between lines of metrics
    save_every: NonNegative[int] = 5000

    def __post_init__(self):
        wb.run.check_options(self)


PRESETS = {
    "rgb": Config(kl=0.01),  # as `cpu_rgb`
    "cpu": Config(
        env="worldblocks.testing:Catch",
        env_args='{"side": 64}',
        pixels=False,
        steps=1500,
        device="cpu",
        bf16=False,
        frames=2000,
        held_out=200,
        depth=4,
        kl=0.1,  # at 1 the 64-pixel ball is not learned in these steps
        batch=32,
        lr=3e-3,
        warmup=100,
        log_every=100,
        save_every=1000,
    ),
    "cpu_rgb": Config(
        steps=1500,
        device="cpu",
        bf16=False,
        frames=2000,
        held_out=200,
        depth=4,
        kl=0.01,  # the pole is thin
        batch=32,
        lr=3e-3,
        warmup=100,
        log_every=100,
        save_every=1000,
    ),
    "smoke": Config(
        env="worldblocks.testing:Catch",
        pixels=False,
        image=48,
        steps=60,
        device="cpu",
        bf16=False,
        envs=2,
        frames=100,
        held_out=20,
        latent=8,
        depth=2,
        batch=8,
        lr=1e-3,
        warmup=10,
        log_every=20,
        save_every=30,
    ),
}


class VAE(nn.Module):
    """The modules; the training code is below."""

    def __init__(self, observation: wb.spaces.Spaces, cfg: Config):
        super().__init__()
        groups = wb.encoders.image_groups(observation)
        if len(groups) != 1:
            raise ValueError(
                f"an autoencoder is for images of one size, got {observation}; --image 64 resizes "
                f"those of an environment, --pixels renders it"
            )
        size, channels = wb.encoders.group_shape(observation, groups[0])
        errors = {"l2": wb.distributions.SigmoidImageMSE, "l1": wb.distributions.SigmoidImageL1}
        self.encoder = wb.encoders.GaussianEncoder(
            channels=channels, size=size, latent=cfg.latent, depth=cfg.depth
        )
        self.decoder = wb.decoders.GaussianDecoder(
            channels=channels,
            size=size,
            latent=cfg.latent,
            depth=cfg.depth,
            output=errors[cfg.reconstruction],
        )


def vae_loss(vae, frames, cfg):
    posterior = vae.encoder.posterior(frames)
    one = torch.ones_like(posterior.mean)  # the prior: mean 0, standard deviation 1
    kl = wb.losses.gaussian_kl(posterior.mean, posterior.std, 0 * one, one).sum(-1)
    reconstruction = vae.decoder(posterior.sample()).nll(frames)
    return {"reconstruction": 1.0 * reconstruction, "kl": cfg.kl * kl}


def update(vae, optimizer, frames, cfg):
    """One gradient step on a batch of frames; returns metrics."""
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=cfg.bf16):
        losses = vae_loss(vae, frames, cfg)
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return {f"loss/{name}": loss.detach().mean() for name, loss in losses.items()}


@torch.no_grad()
def judge(vae, frames, cfg):
    """The losses on held-out frames."""
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=cfg.bf16):
        batches = [vae_loss(vae, batch, cfg) for batch in frames.split(cfg.batch)]
    return {
        f"held_out/{name}": torch.cat([losses[name] for losses in batches]).mean()
        for name in batches[0]
    }


@torch.no_grad()
def draw(vae, frames, path: Path):
    """Save a picture: frames above reconstructions from their mean latent vectors."""
    from PIL import Image

    again = (255 * vae.decoder(vae.encoder(frames)).mean).round().byte()
    rows = [torch.cat([*row.cpu()], 1) for row in (frames, again)]
    grid = torch.cat([rows[0], torch.full_like(rows[0][:2], 127), rows[1]])
    grid = grid[..., :3] if grid.shape[-1] >= 3 else grid[..., :1].expand(-1, -1, 3)
    grid = grid.repeat_interleave(2, 0).repeat_interleave(2, 1)
    Image.fromarray(grid.numpy()).save(path)


def environments(cfg: Config, n: int, seed: int) -> wb.envs.EnvVector:
    arguments = json.loads(cfg.env_args)
    make = functools.partial(wb.envs.gym, cfg.env, pixels=cfg.pixels, size=cfg.image, **arguments)
    return wb.envs.EnvVector([make] * n, seed=seed)


def collect(cfg: Config, envs: wb.envs.EnvVector):
    """Frames `batch height width channel` from random actions; images joined by channel."""
    rows, found = envs.reset(), []
    keys, size = wb.encoders.images_of(envs.observation), wb.spaces.action_size(envs.action)
    while len(found) * cfg.envs < cfg.frames + cfg.held_out:
        found.append(torch.cat([rows.obs[key] for key in keys], -1))
        rows = envs.step(torch.randn(cfg.envs, size))  # the largest entry of a one-hot counts
    return torch.cat(found)[: cfg.frames + cfg.held_out]


def build(cfg: Config, observation: wb.spaces.Spaces):
    """A new autoencoder and its optimiser."""
    vae = VAE(observation, cfg).to(wb.run.pick_device(cfg.device))
    optimizer = wb.optim.dreamer_optimizer(
        vae.parameters(), lr=cfg.lr, agc=cfg.agc, warmup=cfg.warmup
    )
    return vae, optimizer


def load(run: str | Path, device: str = "auto"):
    """The trained autoencoder in a run folder and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    envs = environments(cfg, 1, cfg.seed)
    vae, _ = build(cfg, envs.observation)
    envs.close()
    for name, half in vae.named_children():
        wb.run.load_module_state(half, wb.run.Checkpoint(run).weights(name))
    return vae.eval(), cfg


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    envs = environments(cfg, cfg.envs, cfg.seed)
    vae, optimizer = build(cfg, envs.observation)
    train = wb.run.Captured(functools.partial(update, vae, optimizer, cfg=cfg))  # one CUDA graph
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))
    parts = {"encoder": vae.encoder, "decoder": vae.decoder, "optimizer": optimizer}
    with wb.run.Run(cfg, __file__, {**parts, "log": log, "save": save}) as run:
        frames = collect(cfg, envs).to(wb.run.device_of(vae))
        envs.close()
        frames, held_out = frames[: cfg.frames], frames[cfg.frames :]
        step, figures = run.restore(step=0)["step"], {}
        while not run.must_stop() and step < cfg.steps:
            chosen = torch.randint(len(frames), (cfg.batch,))
            run.logger.add(train(frames[chosen.to(frames.device)]))
            step += 1
            if log(step):
                figures = run.log(step, **judge(vae, held_out, cfg))
            if save(step):
                run.save(step=step)
            run.progress.update(step, updates=step, **figures)
        run.finish(step=step)
    draw(vae, held_out[:: max(1, len(held_out) // 10)][:10], run.folder / "frames.png")
    figures = {name: round(value.item(), 3) for name, value in judge(vae, held_out, cfg).items()}
    print(f"{figures}; originals above reconstructions: {run.folder / 'frames.png'}")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="env", compare=wb.evaluate.compare))

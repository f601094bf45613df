"""DreamerV3 on Atari: the whole algorithm, read from top to bottom.

Mastering Diverse Domains through World Models, Hafner et al. (arXiv:2301.04104), as in the
authors' released code of 2024 and later.

    python recipes/dreamerv3_atari.py cpu                      a small agent, about ten minutes
    python recipes/dreamerv3_atari.py atari100k --game boxing  a GPU; published score at 400k
                                                               frames: 82 (5 seeds)
    python recipes/dreamerv3_atari.py atari --game pong        a GPU and days; 200M frames

A run folder holds config, metrics, curve, open-loop videos and a checkpoint; `--resume` continues
it exactly. `recipes/evaluate.py RUN` plays it.
"""

import dataclasses
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import nn
from torch.utils import _pytree as pytree

import worldblocks as wb


@dataclass(frozen=True, kw_only=True)
class Config:
    game: str = "boxing"  # any game of the Arcade Learning Environment
    steps: int = 110_000  # environment steps; one is `repeat` frames
    logdir: str = ""  # run folder; default logs/<preset>-<game>-<seed>
    seed: int = 0
    resume: bool = False  # continue the run in logdir, exactly
    device: str = "auto"  # cuda where there is one
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Environments
    envs: int = 1
    image: int = 64  # side in pixels
    gray: bool = False
    repeat: int = 4  # frames an action lasts
    sticky: float = 0.0  # probability that a frame keeps the previous action
    noops: int = 30  # up to this many no-ops open an episode
    full_actions: bool = False  # all 18 actions, or those the game uses
    timeout_is_terminal: bool = True  # the reference's quirk: a time limit ends the return

    # Replay
    capacity: int = 5_000_000  # window starts kept
    batch: int = 16
    length: int = 64  # rows of a window; one more gives the carry it starts from
    train_ratio: float = 256.0  # rows trained on for each environment step
    prefill: int = 1024  # window starts before the first update

    # Sizes: 64 units are 1M parameters, 256 12M, 384 25M, 512 50M, 768 100M, 1024 200M, 1536 400M
    units: int = 1024
    hidden: int | None = None  # default: units
    deter: int | None = None  # default: 8 * units
    classes: int | None = None  # default: units / 16
    depth: int | None = None  # default: units / 16
    groups: int = 32
    blocks: int = 8

    # Learning
    horizon: int = 15  # steps of imagination
    gamma: float = 1 - 1 / 333
    lam: float = 0.95
    entropy: float = 3e-4
    lr: float = 4e-5
    warmup: int = 1000
    agc: float = 0.3

    # Writing
    log_every: int = 1000  # environment steps between two lines of metrics
    video_every: int = 25_000
    save_every: int = 10_000
    report_steps: int = 0  # held-out environment steps judged after training; 0: no report


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
        steps=16_000,
        device="cpu",
        bf16=False,
        envs=4,
        timeout_is_terminal=False,
        capacity=100_000,
        batch=8,
        length=16,
        train_ratio=32.0,
        units=64,
        deter=256,
        classes=8,
        groups=16,
        depth=8,
        horizon=10,
        gamma=1 - 1 / 30,
        lr=6e-4,
        warmup=100,
        video_every=4000,
        save_every=4000,
        report_steps=4000,
    ),
    "smoke": Config(
        steps=256,
        device="cpu",
        bf16=False,
        envs=2,
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


CONTEXT, STEPS = 5, 15  # rows shown and rows imagined, in videos and in the report
MAY_CHANGE = ("steps", "resume", "logdir", "device")  # by a run that is resumed


class Agent(nn.Module):
    """The modules; everything that trains them is below."""

    def __init__(self, observation: wb.spaces.Spaces, action: wb.spaces.Actions, cfg: Config):
        super().__init__()
        cfg = sized(cfg)
        self.cfg = cfg
        self.action_size = wb.spaces.action_size(action)
        self.encoder = wb.encoders.dreamer_encoder(observation, depth=cfg.depth, units=cfg.units)
        self.rssm = wb.rssm.dreamer_rssm(
            embed_dim=self.encoder.embed_dim,
            action_dim=self.action_size,
            deter=cfg.deter,
            hidden=cfg.hidden,
            groups=cfg.groups,
            classes=cfg.classes,
            blocks=cfg.blocks,
            unimix=0.01,
        )
        self.decoder = wb.decoders.dreamer_decoder(
            observation,
            deter=cfg.deter,
            stoch=cfg.groups * cfg.classes,
            depth=cfg.depth,
            units=cfg.units,
        )
        feature, units = self.rssm.feature_dim, cfg.units
        self.reward = wb.heads.TwoHotHead(feature, units=units, layers=1)
        self.cont = wb.heads.BinaryHead(feature, units=units, layers=1)
        self.actor = wb.heads.ActorHead(feature, action, units=units, layers=3)
        self.value = wb.heads.TwoHotHead(feature, units=units, layers=3)
        self.slow_value = wb.ema.SlowCopy(self.value, rate=0.02)
        self.return_scale = wb.normalize.PercentileScale(rate=0.01, low=5, high=95, floor=1.0)

    def initial(self, n: int):
        """What `act` carries before the first row: the dynamics carry and the last action."""
        carry = self.rssm.initial(n)
        return carry, carry.deter.new_zeros(n, self.action_size)


def sized(cfg: Config) -> Config:
    """The configuration with every size a number."""
    rule = {"hidden": cfg.units, "deter": 8 * cfg.units}
    rule |= {"classes": cfg.units // 16, "depth": cfg.units // 16}
    return dataclasses.replace(cfg, **{k: v for k, v in rule.items() if getattr(cfg, k) is None})


def world_model_loss(agent, batch, cfg):
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior = agent.rssm.prior(post.deter)
    dyn, rep = wb.losses.balanced_kl(post.logits, prior, free_nats=1.0, unimix=0.01)
    feature = post.feature()
    alive = 1.0 - batch.is_terminal.float()  # a time limit (is_last alone) is alive
    losses = {
        "dyn": 1.0 * dyn,
        "rep": 0.1 * rep,
        "obs": 1.0 * agent.decoder(post).nll(batch.obs),
        "reward": 1.0 * agent.reward(feature).nll(batch.reward),
        "cont": 1.0 * agent.cont(feature).nll(cfg.gamma * alive),  # gamma lives here
    }
    with torch.no_grad():
        entropy = {"dyn_ent": prior, "rep_ent": post.logits}
        metrics = {k: agent.rssm.latent.distribution(v).entropy() for k, v in entropy.items()}
    return post, losses, metrics


def actor_critic_loss(agent, post, batch, cfg):
    start = post.flatten().detach()  # every posterior is a start: batch * time trajectories
    with torch.no_grad():  # REINFORCE: nothing flows through the dynamics
        states, action = wb.rssm.imagine(
            agent.rssm, start, lambda state: agent.actor(state.feature()).sample(), cfg.horizon
        )
        feature = states.feature()  # horizon + 1 rows; action[:, t] is chosen AT states[:, t]
        reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value, slow = agent.value(feature), agent.slow_value(feature).mean
    returns = wb.returns.lambda_return(  # the online critic bootstraps
        reward[:, 1:], cont[:, 1:], value.mean[:, 1:], cfg.lam
    ).detach()
    weight = cont.cumprod(1)[:, :-1]  # starts with the cont of row 0
    scale = agent.return_scale(returns)  # updated first, then read
    advantage = (returns - value.mean[:, :-1].detach()) / scale
    policy = agent.actor(feature[:, :-1])
    log_prob, entropy = policy.log_prob(action[:, :-1]), policy.entropy()
    losses = {
        "actor": -1.0 * weight * (log_prob * advantage + cfg.entropy * entropy),
        "critic": 1.0 * weight * (value[:, :-1].nll(returns) + value[:, :-1].nll(slow[:, :-1])),
        "replay_critic": 0.3 * replay_critic_loss(agent, post, batch, returns[:, 0], cfg),
    }
    metrics = {"adv": advantage, "adv_mag": advantage.abs(), "rew": reward, "con": cont}
    metrics |= {"ret": returns, "val": value.mean, "weight": weight, "ent": entropy}
    metrics |= {"ret_min": returns.min(), "ret_max": returns.max(), "ret_scale": scale}
    return losses, {name: metric.detach() for name, metric in metrics.items()}


def replay_critic_loss(agent, post, batch, first_return, cfg):
    """The critic on replayed rows; its gradient reaches the encoder and the RSSM."""
    boot = first_return.reshape(batch.reward.shape)  # of the imagination that starts there
    live = cfg.gamma * (1 - batch.is_terminal.float())
    lam = cfg.lam * (1 - batch.is_last.float())
    target = wb.returns.lambda_return(batch.reward[:, 1:], live[:, 1:], boot[:, 1:], lam[:, 1:])
    value = agent.value(post.feature())[:, :-1]
    slow = agent.slow_value(post.feature()).mean[:, :-1].detach()
    return (1 - batch.is_last.float())[:, :-1] * (value.nll(target) + value.nll(slow))


def update(agent, optimizer, batch, cfg):
    """One step of everything on one batch; returns the posterior states and metrics."""
    with autocast(cfg, batch.reward.device):
        post, losses, metrics = world_model_loss(agent, batch, cfg)
        more_losses, more_metrics = actor_critic_loss(agent, post, batch, cfg)
    losses |= more_losses
    total = sum(loss.mean() for loss in losses.values())
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    agent.slow_value.update(agent.value)
    metrics |= more_metrics | {f"loss/{name}": loss.detach() for name, loss in losses.items()}
    return post.detach(), {name: metric.mean() for name, metric in metrics.items()}


def autocast(cfg, device):
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cfg.bf16)


def build(cfg: Config, observation: wb.spaces.Spaces, action: wb.spaces.Actions):
    """A new agent and its optimiser: one for everything."""
    agent = Agent(observation, action, cfg).to(pick_device(cfg))
    trained = [p for p in agent.parameters() if p.requires_grad]
    return agent, wb.optim.dreamer_optimizer(trained, cfg.lr, agc=cfg.agc, warmup=cfg.warmup)


def pick_device(cfg: Config) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device


def environments(cfg: Config, n: int, seed: int) -> wb.envs.EnvVector:
    games = [
        wb.envs.atari(
            cfg.game,
            size=cfg.image,
            gray=cfg.gray,
            repeat=cfg.repeat,
            sticky=cfg.sticky,
            noops=cfg.noops,
            full_actions=cfg.full_actions,
            timeout_is_terminal=cfg.timeout_is_terminal,
        )
        for _ in range(n)
    ]
    return wb.envs.EnvVector(games, seed=seed)


def load(run: str | Path, device: str = "auto"):
    """The trained agent of a run folder and its configuration."""
    saved = wb.run.read_config(run)
    cfg = Config(**{f.name: saved[f.name] for f in dataclasses.fields(Config) if f.name in saved})
    cfg = dataclasses.replace(cfg, device=device)
    envs = environments(cfg, 1, cfg.seed)
    agent, _ = build(cfg, envs.observation, envs.action)
    envs.close()
    wb.run.load_module_state(agent, wb.run.Checkpoint(run).weights("agent"))
    return agent.eval(), cfg


@torch.no_grad()
def act(agent, obs, carry, is_first, mode: bool = False):
    """One action for each environment: `(action, carry)`; `mode` takes the policy's likeliest."""
    dynamics, prev_action = carry
    device = prev_action.device
    obs = {key: value.to(device, non_blocking=True) for key, value in obs.items()}
    with autocast(agent.cfg, device):
        embed = agent.encoder(obs)
        state = agent.rssm.observe_step(dynamics, embed, prev_action, is_first.to(device))
        policy = agent.actor(state.feature())
        action = policy.mode if mode else policy.sample()
    return action, (state.carry, action)


@torch.no_grad()
def open_loop(agent, batch, actions=None):
    """Observe `CONTEXT` rows of a batch, imagine the others from the actions that led to them."""
    embed = agent.encoder({key: value[:, :CONTEXT] for key, value in batch.obs.items()})
    past, first = batch.prev_action[:, :CONTEXT], batch.is_first[:, :CONTEXT]
    future = (batch.prev_action if actions is None else actions)[:, CONTEXT:]
    post = agent.rssm.observe(batch.carry, embed, past, first)
    prior = wb.rssm.rollout(agent.rssm, post[:, -1].carry, future)
    states = pytree.tree_map(lambda a, b: torch.cat([a, b], 1), post, prior)
    return agent.decoder(states).mean


@torch.no_grad()
def film(agent, batch, logger, step):
    """A video of open-loop prediction: truth, imagined, error."""
    truth = torch.cat([batch.obs[key] for key in agent.encoder.image_keys], -1)
    imagined = torch.cat([open_loop(agent, batch)[key] for key in agent.encoder.image_keys], -1)
    logger.video(step, "open_loop", wb.run.open_loop_grid(truth, imagined, CONTEXT))


def collect(agent, envs, steps: int):
    """Play, and give the rows of all environments as one `Batch` of `env time ...`."""
    rows, carry, played = envs.reset(), agent.initial(len(envs)), []
    for _ in range(steps):
        played.append(wb.replay.Batch(**rows._asdict(), prev_action=carry[1], carry=None, row=None))
        action, carry = act(agent, rows.obs, carry, rows.is_first)
        rows = envs.step(action)
    return pytree.tree_map(lambda *x: torch.stack(x, 1), *played)


@torch.no_grad()
def report(agent, cfg, mean_frame, logger, step):
    """Judge the world model on episodes it was not trained on; see `wb.run.held_out`."""
    batch = collect(agent, environments(cfg, 4, cfg.seed + 1_000_000), cfg.report_steps // 4)
    carry = agent.rssm.initial(4)
    post = agent.rssm.observe(carry, agent.encoder(batch.obs), batch.prev_action, batch.is_first)
    feature = post.feature()
    realised, valid = wb.run.realised_return(
        batch.reward, batch.is_last, batch.is_terminal, cfg.gamma
    )
    size = CONTEXT + STEPS
    count = (batch.reward.shape[1] - 1) // size

    def cut(x):  # windows side by side, from row 1 on: the row before each gives its carry
        return x[:, 1 : 1 + count * size].unflatten(1, (count, size)).flatten(0, 1)

    windows = pytree.tree_map(cut, batch._replace(carry=None, row=None))
    carry = pytree.tree_map(lambda x: x[:, : count * size : size].flatten(0, 1), post.carry)
    windows = windows._replace(carry=carry)
    whole = ~windows.is_first[:, CONTEXT:].any(1)  # imagination does not cross an episode's end
    windows = pytree.tree_map(lambda x: x[whole], windows)
    shuffled = windows.prev_action.flatten(0, 1)[torch.randperm(len(windows.reward) * size)]
    checks = wb.run.held_out(
        truth=windows.obs["image"],
        imagined=open_loop(agent, windows)["image"],
        shuffled=open_loop(agent, windows, shuffled.view_as(windows.prev_action))["image"],
        context=CONTEXT,
        mean_frame=mean_frame,
        reward=batch.reward,
        predicted_reward=agent.reward(feature).mean,
        value=agent.value(feature).mean,
        realised=realised,
        valid=valid,
    )
    film(agent, pytree.tree_map(lambda x: x[:4], windows), logger, step)
    return wb.run.write_report(logger.logdir, checks)


def main(cfg: Config) -> None:
    cfg = sized(cfg)
    config = {**dataclasses.asdict(cfg), "recipe": Path(__file__).stem}
    run = wb.run.run_folder(cfg.logdir, config, cfg.resume, may_change=MAY_CHANGE)
    print(f"{cfg.game}: run folder {run}", flush=True)
    torch.manual_seed(cfg.seed)
    envs = environments(cfg, cfg.envs, cfg.seed)
    agent, optimizer = build(cfg, envs.observation, envs.action)
    device = pick_device(cfg)
    replay = wb.replay.SequenceReplay(
        capacity=cfg.capacity, streams=cfg.envs, length=cfg.length, seed=cfg.seed
    )
    due = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
    log, show, save = map(wb.run.Every, (cfg.log_every, cfg.video_every, cfg.save_every))
    checkpoint = wb.run.Checkpoint(run)
    logger = wb.run.Logger(run, resume_at=None if checkpoint.exists() else 0)
    parts = {"optimizer": optimizer, "logger": logger, "due": due}
    parts |= {"log": log, "show": show, "save": save}
    step = updates = episodes = 0
    scores: list[float] = []  # of the last ten episodes
    carry = agent.initial(cfg.envs)

    if checkpoint.exists():
        state = checkpoint.load()
        checkpoint.load_stores({"replay": replay})
        wb.run.load_module_state(agent, state["agent"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step, updates, episodes, scores = state["counts"]
        leaves = [leaf.to(device) for leaf in state["carry"]]
        carry = pytree.tree_unflatten(leaves, pytree.tree_structure(carry))
        rows = envs.load_state_dict(state["envs"])
        wb.run.set_rng_state(state["rng"])
    else:
        rows = envs.reset()

    def keep():
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"agent": agent.state_dict(), "envs": envs.state_dict()}
        state |= {"counts": [step, updates, episodes, scores]}
        state |= {"carry": pytree.tree_leaves(carry), "rng": wb.run.rng_state()}
        checkpoint.save(state, stores={"replay": replay})
        wb.run.plot_curve(run)

    with wb.run.Interrupt() as interrupt, wb.run.Progress(cfg.steps, step) as progress:
        while step < cfg.steps and not interrupt.requested:
            prev_action = carry[1]  # led to these rows
            action, carry = act(agent, rows.obs, carry, rows.is_first)
            replay.add(**rows._asdict(), prev_action=prev_action, carry=agent.rssm.pack(carry[0]))
            step += cfg.envs
            for _ in range(due(step) if len(replay) >= cfg.prefill else 0):
                batch = replay.sample(cfg.batch).to(device, non_blocking=True)
                batch = batch._replace(carry=agent.rssm.unpack(batch.carry))
                post, metrics = update(agent, optimizer, batch, cfg)
                replay.write_back(batch.row, agent.rssm.pack(post.carry))
                logger.add(metrics)
                updates += 1
            rows = envs.step(action)
            for _, score, length in envs.finished:
                logger.episode(step, score, length)
                episodes, scores = episodes + 1, [*scores[-9:], score]
            score = sum(scores) / len(scores) if scores else None
            if show(step) and updates:
                batch = replay.sample(4, length=CONTEXT + STEPS).to(device)
                film(agent, batch._replace(carry=agent.rssm.unpack(batch.carry)), logger, step)
            if log(step):
                logger.write(step, {"updates": updates, "episodes": episodes})
                logger.timing(step, progress.rates())
            if save(step):
                keep()
            progress.update(step, updates=updates, episodes=episodes, score=score)
        keep()
    envs.close()
    if interrupt.requested:
        logger.close()
        print(f"saved at step {step}; continue with:\n  {resume_command(cfg, run)}")
        sys.exit(interrupt.exit_code)
    if cfg.report_steps:
        frames = replay.sample(64).obs["image"].float() / 255
        print(report(agent, cfg, frames.mean((0, 1)), logger, step))
    logger.close()
    print(f"run folder {run}; play it with:\n  python recipes/evaluate.py {run}")


def resume_command(cfg: Config, run: Path) -> str:
    arguments = [arg for arg in sys.argv[1:] if arg != "--resume"]
    if "--logdir" not in arguments:
        arguments += ["--logdir", str(run)]
    return shlex.join(["python", sys.argv[0], *arguments, "--resume"])


def cli() -> Config:
    """PRESET and its options; the run folder is named after preset, game, seed and time."""
    described = {name: (f"{cfg.steps:,} steps", cfg) for name, cfg in PRESETS.items()}
    cfg = tyro.extras.overridable_config_cli(described, description=__doc__)
    if not cfg.logdir:
        if cfg.resume:
            sys.exit("--resume needs the --logdir of the run to continue")
        name = f"{sys.argv[1]}-{cfg.game}-{cfg.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        cfg = dataclasses.replace(cfg, logdir=str(Path("logs") / name))
    return cfg


if __name__ == "__main__":
    main(cli())

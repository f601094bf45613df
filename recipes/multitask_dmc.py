"""Several tasks on one world model that is not told which: DreamerV3 with a head for each task.

One encoder, RSSM, decoder and continue head see the rows of all tasks. A task adds a reward head,
a policy, a critic with its slow copy and a scale of returns, trained in imagination from the states
of every task. Neither a task's name nor (by default) a gradient from a task's head reaches the
world model. The agent of one task is that of `dreamerv3_dmc.py`, whose page explains its losses.

    python recipes/multitask_dmc.py cpu                  reacher easy + hard, minutes on one core
    python recipes/multitask_dmc.py walker               a GPU: stand and walk; run is held out
    python recipes/multitask_dmc.py reacher              a GPU: easy and hard
    python recipes/adapt.py RUN --task walker_run        a new task on the world model of a run

Expected: each task's return above the 95th percentile of a random policy's, which the run measures.
An interrupted run continues with --resume; --tasks may then name more tasks or fewer.
"""

import dataclasses
import functools
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import worldblocks as wb


@dataclass(frozen=True, kw_only=True)
class Config:
    tasks: tuple[str, ...] = ("walker_stand", "walker_walk")  # domain_task of the Control Suite
    steps: int = 250_000  # actions in each task; each lasts `repeat` environment steps
    logdir: str = ""  # run folder; default logs/<preset>-<tasks>-<seed>-<time>
    seed: int = 0
    seeds: tuple[int, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir; tasks may have joined or left
    device: str = "auto"  # cuda where there is one
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Environments
    envs: int = 8  # of each task
    workers: bool = True  # each in a process of its own, which may crash and is started again
    pixels: bool = False  # see rendered images alone; else the numbers of the task
    image: int = 64  # side in pixels
    repeat: int = 2  # control steps an action lasts
    relabel: bool = True  # every task's reward on every row, where features of the physics say it

    # Sharing
    conditioned: bool = False  # the world model is told the task, as a one-hot beside the action
    reward_grad: Literal["none", "all"] = "none"  # of task heads, into the world model
    sampler: Literal["balanced", "proportional", "progress"] = "balanced"  # windows of a batch
    own_starts: bool = False  # imagine from the states of the task itself alone

    # Replay
    capacity: int = 1_000_000  # window starts kept of each task
    batch: int = 16
    length: int = 64  # rows of a window; one more gives the carry it starts from
    train_ratio: float = 512.0  # rows trained on for each action, of any task
    prefill: int = 1024  # window starts of each task before the first update

    # Sizes: 64 units are 1M parameters, 256 12M, 384 25M, 512 50M, 768 100M, 1024 200M, 1536 400M
    units: int = 64
    hidden: int | None = None  # default: units
    deter: int | None = None  # default: 8 * units
    classes: int | None = None  # default: units / 16
    depth: int | None = None  # default: units / 16
    groups: int = 32
    blocks: int = 8

    # Learning
    horizon: int = 15  # steps of imagination
    imag_last: int = 0  # imagine from so many last rows of a window; 0: from all of them
    gamma: float = 1 - 1 / 333
    lam: float = 0.95
    slow_rate: float = 0.02  # share of the critic that its slow copy takes over at each update
    entropy: float = 3e-4
    reconstruction: float = 1.0  # weight of that loss; small images and small numbers need more
    return_floor: float = 1.0  # smallest divisor of the advantage
    lr: float = 4e-5
    warmup: int = 1000
    agc: float = 0.3

    # Writing
    log_every: int = 1000  # actions between two lines of metrics
    save_every: int = 10_000
    judge: int = 100  # episodes of each task after training, and of a random policy before

    def __post_init__(self):
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"--tasks takes different tasks, at least one, got {self.tasks}")
        if self.prefill > self.capacity:
            raise ValueError(
                f"training begins with {self.prefill} windows in replay, which keeps only "
                f"{self.capacity}: give a smaller --prefill or a larger --capacity"
            )
        if self.imag_last and not 2 <= self.imag_last <= self.length:
            raise ValueError(
                f"imagination starts from the last 2 to {self.length} rows of a window (--length), "
                f"or from all of them with 0, got --imag_last {self.imag_last}"
            )


PRESETS = {
    "walker": Config(),
    "reacher": Config(tasks=("reacher_easy", "reacher_hard")),
    "cpu": Config(
        tasks=("reacher_easy", "reacher_hard"),
        steps=8000,
        device="cpu",
        bf16=False,
        envs=1,
        workers=False,
        capacity=200_000,
        length=16,
        train_ratio=64.0,
        prefill=500,
        deter=256,
        classes=8,
        groups=8,
        horizon=10,
        imag_last=4,
        lr=6e-4,
        warmup=200,
        save_every=2500,
    ),
    "smoke": Config(
        tasks=("reacher_easy", "reacher_hard"),
        steps=128,
        device="cpu",
        bf16=False,
        envs=2,
        workers=False,
        repeat=40,
        capacity=1000,
        batch=4,
        length=8,
        train_ratio=1.0,
        prefill=32,
        units=16,
        deter=32,
        classes=4,
        groups=4,
        depth=2,
        horizon=3,
        imag_last=2,
        log_every=32,
        save_every=64,
        judge=2,
    ),
}


class World(nn.Module):
    """What all tasks share."""

    def __init__(self, observation: wb.spaces.Spaces, action_size: int, cfg: Config):
        super().__init__()
        units, deter = cfg.units, cfg.deter or 8 * cfg.units
        classes, depth = cfg.classes or units // 16, cfg.depth or units // 16
        self.encoder = wb.encoders.dreamer_encoder(observation, depth=depth, units=units)
        sizes: Any = {"deter": deter, "hidden": cfg.hidden or units}
        sizes |= {"embed_dim": self.encoder.embed_dim, "action_dim": action_size}
        onehots: Any = {"groups": cfg.groups, "classes": classes, "unimix": 0.01}
        self.rssm = wb.rssm.dreamer_rssm(blocks=cfg.blocks, **onehots, **sizes)
        self.decoder = wb.decoders.dreamer_decoder(
            observation, deter=deter, stoch=self.rssm.latent.size, depth=depth, units=units
        )
        self.cont = wb.heads.BinaryHead(self.rssm.feature_dim, units=units, layers=1)


class Agent(nn.Module):
    """The world and the heads of all tasks; everything that trains them is below."""

    def __init__(self, observation: wb.spaces.Spaces, actions: dict[str, Any], cfg: Config):
        super().__init__()
        self.cfg, self.founders = cfg, list(actions)  # the tasks that the world is made for
        self.action_size = max(wb.spaces.action_size(action) for action in actions.values())
        self.action_size += cfg.conditioned * len(actions)
        self.world = World(observation, self.action_size, cfg)
        self.heads = wb.tasks.TaskHeads()

    def head(self, task: str, action: wb.spaces.Actions) -> wb.tasks.TaskHead:
        """A new head for a task; in a conditioned world it says which task is played."""
        feature, units = self.world.rssm.feature_dim, self.cfg.units
        tail = torch.zeros(self.action_size - wb.spaces.action_size(action))
        if self.cfg.conditioned:
            tail[self.founders.index(task) - len(self.founders)] = 1.0
        actor = wb.heads.ActorHead(feature, action, units=units, layers=3)
        value = wb.heads.TwoHotHead(feature, units=units, layers=3)
        return wb.tasks.TaskHead(
            reward=wb.heads.TwoHotHead(feature, units=units, layers=1),
            actor=wb.tasks.PaddedActor(actor, width=self.action_size, tail=tail),
            value=value,
            slow_value=wb.ema.SlowCopy(value, rate=self.cfg.slow_rate),
            return_scale=wb.normalize.PercentileScale(0.01, 5, 95, floor=self.cfg.return_floor),
        )

    def task(self, name: str) -> wb.tasks.OneTask:
        """The agent of one task, whose world is that of all."""
        return wb.tasks.OneTask(
            self.world, self.heads[name], cfg=self.cfg, initial=self.initial, name=name
        )

    def initial(self, n: int):
        """What `act` carries before the first row: the dynamics carry and the last action."""
        carry = self.world.rssm.initial(n)
        return carry, carry.deter.new_zeros(n, self.action_size)


def world_model_loss(world, batch, cfg):
    """The rewards of `batch` are not read."""
    embed = world.encoder(batch.obs)
    post = world.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
    prior, posterior = world.rssm.prior(post.deter), world.rssm.posterior(post)
    dyn, rep = wb.losses.balanced_kl(posterior, prior, free_nats=1.0)
    feature = post.feature()
    alive = 1.0 - batch.is_terminal.float()  # a time limit (is_last alone) is alive
    losses = {
        "dyn": 1.0 * dyn,
        "rep": 0.1 * rep,
        "obs": cfg.reconstruction * world.decoder(post).nll(batch.obs),
        "cont": 1.0 * world.cont(feature).nll(cfg.gamma * alive),  # gamma lives here
    }
    metrics = {"prior_entropy": prior.entropy(), "posterior_entropy": posterior.entropy()}
    return post, losses, metrics


def task_loss(agent, post, batch, known, own, cfg):
    """What the head of one task learns; `known` rewards, `own` windows of the task's policy."""
    seen = post if cfg.reward_grad == "all" else post.detach()
    reward = agent.reward(seen.feature()).nll(batch.reward)
    losses, metrics = actor_critic_loss(agent, seen, batch, own, cfg)
    return {"reward": 1.0 * only(known, reward), **losses}, metrics


def only(rows, x):
    """`x` on some of its rows, so that the mean over all rows is that over those."""
    return x * rows / rows.float().mean().clamp(min=1 / rows.numel())


def actor_critic_loss(agent, post, batch, own, cfg):
    if cfg.imag_last:
        post, batch = post[:, -cfg.imag_last :], batch.last(cfg.imag_last)
    start = post.flatten().detach()  # every posterior is a start, whichever task it is of
    with torch.no_grad():  # REINFORCE: nothing flows through the dynamics
        states, action = wb.rssm.imagine(
            agent.rssm, start, lambda s: agent.actor(s.feature()).sample(), cfg.horizon
        )
        feature = states.feature()  # horizon + 1 rows; action[:, t] is chosen AT states[:, t]
        reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value, slow = agent.value(feature), agent.slow_value(feature).mean
    baseline = value.mean.detach()  # the online critic bootstraps
    target = wb.returns.lambda_return(reward[:, 1:], cont[:, 1:], baseline[:, 1:], cfg.lam)
    weight = cont.cumprod(1)[:, :-1]  # starts with the cont of row 0
    if cfg.own_starts:
        weight = only(own.repeat_interleave(batch.reward.shape[1])[:, None], weight)
    scale = agent.return_scale(target)  # updated first, then read
    advantage = (target - baseline[:, :-1]) / scale
    policy = agent.actor(feature)[:, :-1]
    log_prob, entropy = policy.log_prob(action[:, :-1]), policy.entropy()
    losses = {
        "actor": -1.0 * weight * (log_prob * advantage + cfg.entropy * entropy),
        "critic": 1.0 * weight * (value[:, :-1].nll(target) + value[:, :-1].nll(slow[:, :-1])),
        "replay_critic": 0.3 * replay_critic_loss(agent, post, batch, target[:, 0], own, cfg),
    }
    metrics = {"reward": reward, "continue": cont, "value": baseline, "return": target}
    metrics |= {"return_min": target.min(), "return_max": target.max(), "return_scale": scale}
    metrics |= {"advantage_abs": advantage.abs(), "policy_entropy": entropy}
    return losses, metrics


def replay_critic_loss(agent, post, batch, first_return, own, cfg):
    """The critic on the rows that its own task played: those of another policy say nothing."""
    boot = first_return.reshape(batch.reward.shape)  # of the imagination that starts there
    live = cfg.gamma * (1 - batch.is_terminal.float())
    lam = cfg.lam * (1 - batch.is_last.float())
    target = wb.returns.lambda_return(batch.reward[:, 1:], live[:, 1:], boot[:, 1:], lam[:, 1:])
    value = agent.value(post.feature())[:, :-1]
    slow = agent.slow_value(post.feature().detach()).mean[:, :-1]
    alive = (1 - batch.is_last.float())[:, :-1]
    return only(own[:, None], alive * (value.nll(target) + value.nll(slow)))


def update(agent, optimizers, mixture, cfg):
    """One step of everything on one mixture; returns the posterior states and metrics."""
    batch = mixture.batch
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        post, losses, metrics = world_model_loss(agent.world, batch, cfg)
        for place, name in enumerate(agent.heads):
            rows = batch._replace(reward=mixture.reward[place])
            known, own = mixture.known[place], mixture.task == place
            more, values = task_loss(agent.task(name), post, rows, known, own, cfg)
            losses |= {f"{name}/{key}": loss for key, loss in more.items()}
            metrics |= {f"{name}/{key}": value for key, value in values.items()}
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    total.backward()
    for optimizer in optimizers.values():
        optimizer.step()
    for name in agent.heads:
        agent.heads[name].slow_value.update(agent.heads[name].value)
    metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
    return post.detach(), {name: metric.detach().mean() for name, metric in metrics.items()}


def sample(agent, replay, counts, **options):
    """A mixture from replay, on the agent's device, with the carry it starts from."""
    device = next(agent.parameters()).device
    mixture = replay.sample(counts, **options).to(device, non_blocking=True)
    batch = mixture.batch
    return mixture._replace(batch=batch._replace(carry=agent.world.rssm.unpack(batch.carry)))


def learn(train, agent, replay, counts):
    """One update on a mixture from replay, whose latents it refreshes."""
    mixture = sample(agent, replay, counts)
    post, metrics = train(mixture._replace(batch=mixture.batch._replace(row=None)))
    replay.write_back(mixture, agent.world.rssm.pack(post.carry))
    return metrics


def environments(cfg: Config, n: int, seed: int, task: str = "", observation: Any = None):
    """Environments of one task; with the `observation` of all tasks they are padded to it."""
    task = task or cfg.tasks[0]
    known = wb.tasks.control_reward(task) if cfg.relabel else None
    options: Any = {"pixels": cfg.pixels, "size": cfg.image, "repeat": cfg.repeat}
    options["features"] = known.features if known else ()
    make = functools.partial(wb.envs.dmc, task, **options)
    make = functools.partial(wb.tasks.Padded, make, observation) if observation else make
    seed += zlib.crc32(task.encode())  # the same episodes whichever tasks are beside it
    return wb.envs.EnvVector([make] * n, seed=seed, workers=cfg.workers)


def spaces(cfg: Config, tasks):
    """What all these tasks observe together, and the action of each."""
    cfg = dataclasses.replace(cfg, workers=False)
    opened = {task: environments(cfg, 1, cfg.seed, task) for task in tasks}
    for envs in opened.values():
        envs.close()
    observation = wb.tasks.union({task: envs.observation for task, envs in opened.items()})
    return observation, {task: envs.action for task, envs in opened.items()}


def build(cfg: Config, observation: wb.spaces.Spaces, actions: dict[str, Any], tasks):
    """An agent whose world is made for the tasks of `actions`, and an optimiser for it."""
    agent = Agent(observation, actions, cfg).to(wb.run.pick_device(cfg.device))
    optimizers = {"world": optimizer(cfg, agent.world)}
    for task, action in tasks.items():
        join(agent, optimizers, task, action)
    return agent, optimizers


def optimizer(cfg: Config, part: nn.Module):
    options = {"lr": cfg.lr, "agc": cfg.agc, "warmup": cfg.warmup}
    return wb.optim.dreamer_optimizer(part.parameters(), **options)


def join(agent, optimizers, task: str, action: wb.spaces.Actions):
    """A task more: a head of its own with an optimiser of its own; no other changes."""
    agent.heads.add(task, agent.head(task, action).to(next(agent.parameters()).device))
    optimizers[task] = optimizer(agent.cfg, agent.heads[task])


def crew(run: str | Path, cfg: Config):
    """The tasks that the world was made for, and those that have a head."""
    checkpoint = wb.run.Checkpoint(run)
    if not checkpoint.exists():
        return list(cfg.tasks), list(cfg.tasks)
    position = checkpoint.header()["position"]
    return position["founders"], position["tasks"]


def load(run: str | Path, device: str = "auto", task: str = ""):
    """The trained agent of one task (else the first) of a run folder and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    founders, tasks = crew(run, cfg)
    observation, actions = spaces(cfg, founders)
    agent, _ = build(cfg, observation, actions, spaces(cfg, tasks)[1])
    wb.run.load_module_state(agent, wb.run.Checkpoint(run).weights("agent"))
    return agent.eval().task(task or tasks[0]), cfg


@torch.no_grad()
def act(agent, obs, carry, is_first, mode: bool = False):
    """One action for each environment: `(action, carry)`; `mode` takes the policy's likeliest."""
    dynamics, prev_action = carry
    device = prev_action.device
    obs = {key: obs[key].to(device) for key in agent.encoder.keys}  # no label and no feature
    with torch.autocast(device.type, torch.bfloat16, enabled=agent.cfg.bf16):
        embed, is_first = agent.encoder(obs), is_first.to(device)
        state = agent.rssm.observe_step(dynamics, embed, prev_action, is_first)
        policy = agent.actor(state.feature())
    action = policy.mode if mode else policy.sample()
    return action[:, : policy.size], (state.carry, action)  # the task's own numbers


def judge(run: Path, agent, cfg: Config, replay):
    """Episodes of each task, trained and random, in `scores.json` and `tasks.png`."""
    observation, _ = spaces(cfg, agent.founders)
    cfg, judged = dataclasses.replace(cfg, workers=False), {}
    for task in agent.heads if cfg.judge else []:
        judged[task] = {}
        for name in ("random", "trained"):
            envs = environments(cfg, min(10, cfg.judge), cfg.seed + 1, task, observation)
            policy = wb.tasks.random_policy(envs, cfg.seed)
            if name == "trained":
                policy = wb.tasks.Player(act, agent.task(task), len(envs))
            judged[task][name] = {"scores": wb.tasks.play_episodes(policy, envs, cfg.judge)}
    (run / "scores.json").write_text(json.dumps(judged, indent=2) + "\n", encoding="utf-8")
    latents = {}
    with torch.no_grad():
        for task in agent.heads:
            batch = sample(agent, replay, {task: 16}, length=cfg.length).batch
            latents[task] = world_model_loss(agent.world, batch, cfg)[0].feature().flatten(0, 1)
    wb.tasks.plot_tasks(run, latents=latents)
    return wb.tasks.verdict(judged)


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    config = {**dataclasses.asdict(cfg), "recipe": Path(__file__).stem}
    free = ("steps", "resume", "logdir", "device", "workers", "tasks")  # may differ when resumed
    run = wb.run.run_folder(cfg.logdir, config, cfg.resume, may_change=free)
    print(f"run folder {run}", flush=True)
    founders, tasks = crew(run, cfg)
    every = list(dict.fromkeys([*tasks, *cfg.tasks]))
    observation, actions = spaces(cfg, founders)
    actions |= spaces(cfg, every)[1]
    founding = {task: actions[task] for task in founders}
    agent, optimizers = build(cfg, observation, founding, {task: actions[task] for task in tasks})
    known = {task: wb.tasks.control_reward(task) for task in every if cfg.relabel}
    replay = wb.replay.MixtureReplay(
        tasks,
        relabel={task: reward for task, reward in known.items() if reward},
        capacity=cfg.capacity,
        streams=cfg.envs,
        length=cfg.length,
        seed=cfg.seed,
    )
    weights = {"balanced": wb.tasks.balanced, "progress": wb.tasks.LearningProgress()}
    weights["proportional"] = wb.tasks.Proportional(lambda task: len(replay[task]))
    sampler = wb.tasks.TaskSampler(seed=cfg.seed, weights=weights[cfg.sampler])
    players, carries = {}, {}

    def enter(task: str):
        players[task] = environments(cfg, cfg.envs, cfg.seed, task, observation)
        players[task].reset()
        carries[task] = agent.initial(cfg.envs)

    checkpoint = wb.run.Checkpoint(run)
    logger = wb.run.Logger(run, resume_at=None if checkpoint.exists() else 0)
    due = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))

    def session():
        parts = {"agent": agent, "replay": replay, "sampler": sampler, "logger": logger}
        parts |= {"due": due, "log": log, "save": save}
        parts |= {f"optimizer {name}": own for name, own in optimizers.items()}
        return wb.run.Session(checkpoint, parts | {f"envs {t}": own for t, own in players.items()})

    for task in tasks:
        enter(task)
    begin = {"step": 0, "acted": 0, "updates": 0, "carries": carries}
    step, acted, updates, carries = session().restore(**begin).values()
    for task in [task for task in tasks if task not in cfg.tasks]:  # those that leave
        players.pop(task).close()
        del carries[task], optimizers[task]
        agent.heads.remove(task)
        replay.remove_task(task)
    for task in [task for task in cfg.tasks if task not in tasks]:  # those that join
        replay.add_task(task)
        join(agent, optimizers, task, actions[task])
        enter(task)
    train = wb.run.Captured(functools.partial(update, agent, optimizers, cfg=cfg))  # one CUDA graph

    def keep():
        position = {"step": step, "acted": acted, "updates": updates, "carries": carries}
        session().save(**position, founders=founders, tasks=list(players))
        wb.tasks.plot_tasks(run)

    def stopped():
        return "".join(envs.stopped for envs in players.values())

    with wb.run.Interrupt() as interrupt, wb.run.Progress(cfg.steps, step) as progress:
        while step < cfg.steps and not (interrupt.requested or stopped()):
            for task, envs in players.items():
                rows, (_, prev_action) = envs.rows, carries[task]  # the action led to these rows
                action, carries[task] = act(
                    agent.task(task), rows.obs, carries[task], rows.is_first
                )
                packed = agent.world.rssm.pack(carries[task][0])
                replay.add(task, **rows._asdict(), prev_action=prev_action, carry=packed)
                envs.send(action)  # workers step while the agent learns
            step, acted = step + cfg.envs, acted + cfg.envs * len(players)
            for _ in range(due(acted) if len(replay) >= cfg.prefill else 0):
                logger.add(learn(train, agent, replay, sampler.counts(list(players), cfg.batch)))
                updates += 1
            for task, envs in players.items():
                envs.receive()
                logger.played(step, envs.finished, envs.failures, task=task)
                for _, score, _ in envs.finished:
                    sampler.observe(task, score)
            if log(step):
                logger.write(step, {"updates": updates, "episodes": logger.episodes})
                logger.timing(step, progress.rates())
            if save(step):
                keep()
            scores = {task: logger.score_of(task) for task in players}
            progress.update(step, updates=updates, episodes=logger.episodes, **scores)
        keep()
    for envs in players.values():
        envs.close()
    if interrupt.requested or stopped():
        print(f"{stopped()}saved at step {step}; continue with:\n  {wb.run.resume_command(run)}")
    else:
        print(judge(run, agent, cfg, replay))
    logger.close()
    print(
        f"run folder {run}; play it with:\n  python recipes/evaluate.py {run} --task {cfg.tasks[0]}"
    )
    return interrupt.exit_code or int(bool(stopped()))


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="tasks"))

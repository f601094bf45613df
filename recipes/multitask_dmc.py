"""Multi-task DreamerV3: one world model that never sees the task id, and a head for each task.

One encoder, RSSM, decoder and continue head see the rows of all tasks. Each task adds a reward
head, a policy, a critic with its slow copy and a return scale, trained in imagination from the
states of every task. Neither a task's name nor (by default) a gradient from its head reaches the
world model. The losses are those of `dreamerv3_dmc.py`, whose page explains them.

    python recipes/multitask_dmc.py cpu                  walker stand + walk, minutes on one core
    python recipes/multitask_dmc.py walker               a GPU: stand and walk; run is held out
    python recipes/multitask_dmc.py reacher              a GPU: easy and hard
    python recipes/adapt.py RUN --task walker_run        a new task on the world model of a run

Expected: each task's return above the 95th percentile of a random policy's, which the run measures.
`--resume` continues an interrupted run; `--tasks` may then add or drop tasks.

Extras: dmc.
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
from worldblocks.run import Discount, NonNegative, Positive, Seed, Share, at_least


@dataclass(frozen=True, kw_only=True)
class Config:
    tasks: tuple[str, ...] = ("walker_stand", "walker_walk")  # domain_task of the Control Suite
    steps: NonNegative[int] = 250_000  # actions per task; each lasts `repeat` environment steps
    logdir: str = ""  # run folder; default logs/<preset>-<tasks>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir; tasks may be added or dropped
    device: str = "auto"  # cuda if available
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Environments
    envs: Positive[int] = 8  # per task
    workers: bool = True  # one process each, restarted if it crashes
    pixels: bool = False  # observe rendered images instead of the task's state
    image: int = 64  # side in pixels
    repeat: Positive[int] = 2  # control steps per action
    relabel: bool = True  # every task's reward on every row, where physics features give it

    # Sharing
    conditioned: bool = False  # append the task to the world model's action, as a one-hot
    reward_grad: Literal["none", "all"] = "none"  # of the task heads, into the world model
    progress: bool = False  # sample more from tasks whose score changes, not equally

    # Replay
    capacity: Positive[int] = 1_000_000  # maximum number of window starts per task
    batch: Positive[int] = 16
    length: Annotated[int, at_least(2)] = 64  # rows per window; one more gives its initial carry
    train_ratio: NonNegative[float] = 512.0  # rows trained on per action, of any task
    prefill: Positive[int] = 1024  # window starts per task before the first update

    # Sizes: 64 units are 1M parameters, 256 12M, 384 25M, 512 50M, 768 100M, 1024 200M, 1536 400M
    units: Positive[int] = 64
    hidden: Positive[int] | None = None  # default: units
    deter: Positive[int] | None = None  # default: 8 * units
    classes: Positive[int] | None = None  # default: units / 16
    depth: Positive[int] | None = None  # default: units / 16
    groups: Positive[int] = 32
    blocks: Positive[int] = 8

    # Learning
    horizon: Positive[int] = 15  # imagination steps
    imag_last: NonNegative[int] = 0  # imagine only from this many last rows of a window; 0: all
    gamma: Discount = 1 - 1 / 333
    lam: Share = 0.95
    entropy: NonNegative[float] = 3e-4
    reconstruction: NonNegative[float] = 1.0  # weight of this loss; more for small images or values
    lr: NonNegative[float] = 4e-5
    warmup: NonNegative[int] = 1000
    agc: NonNegative[float] = 0.3

    # Logging
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 1000  # actions between lines of metrics
    save_every: NonNegative[int] = 10_000
    judge: NonNegative[int] = 100  # evaluation episodes per task, and of a random policy

    def __post_init__(self):
        wb.run.check_options(self)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"--tasks takes one or more different tasks, got {self.tasks}")
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
    "walker": Config(),
    "reacher": Config(tasks=("reacher_easy", "reacher_hard")),
    "cpu": Config(
        steps=8_000,
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
        imag_last=8,
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


class Agent(nn.Module):
    """Modules shared by all tasks, and `heads` for each; the training code is below."""

    def __init__(self, suite: wb.tasks.TaskSuite, cfg: Config):
        super().__init__()
        self.cfg, self.suite = cfg, suite
        units, deter = cfg.units, cfg.deter or 8 * cfg.units
        classes, depth = cfg.classes or units // 16, cfg.depth or units // 16
        self.encoder = wb.encoders.dreamer_encoder(suite.observation, depth=depth, units=units)
        self.rssm = wb.rssm.dreamer_rssm(
            embed_dim=self.encoder.embed_dim,
            action_dim=suite.width,
            deter=deter,
            hidden=cfg.hidden or units,
            groups=cfg.groups,
            classes=classes,
            blocks=cfg.blocks,
            unimix=0.01,
        )
        self.decoder = wb.decoders.dreamer_decoder(
            suite.observation, deter=deter, stoch=self.rssm.part_dims[1], depth=depth, units=units
        )
        self.cont = wb.heads.BinaryHead(self.rssm.feature_dim, units=units, layers=1)
        self.heads = wb.tasks.TaskHeads()

    def head(self, task: str) -> wb.tasks.TaskHead:
        """A new head: reward, actor, critic with its slow copy, return scale."""
        head = wb.tasks.dreamer_head(
            self.rssm.feature_dim,
            self.suite.actions[task],
            units=self.cfg.units,
            width=self.suite.width,
            padding=self.suite.padding(task),
        )
        return head.to(wb.run.device_of(self))

    def task(self, name: str) -> wb.tasks.OneTask:
        """The agent of one task, which shares the world model with the others."""
        return wb.tasks.OneTask(self, name, cfg=self.cfg, initial=self.initial)

    def initial(self, n: int):
        """The `acting` of `act` before the first row: dynamics carry and previous action."""
        action = torch.zeros(n, self.suite.width, device=wb.run.device_of(self))
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
        "cont": 1.0 * agent.cont(feature).nll(cfg.gamma * alive),  # gamma lives here
    }
    metrics = {"prior_entropy": prior.entropy(), "posterior_entropy": posterior.entropy()}
    return post, losses, metrics


def actor_critic_loss(agent, post, batch, cfg, own_rows=None):
    if cfg.imag_last:
        post, batch = post[:, -cfg.imag_last :], batch.last(cfg.imag_last)
    start = post.flatten().detach()  # every posterior is a start, whatever its task
    with torch.no_grad():  # REINFORCE: no gradient through the dynamics
        states, action = wb.rssm.imagine(
            agent.rssm, start, lambda s: agent.actor(s.feature()).sample(), cfg.horizon
        )
        feature = states.feature()  # horizon + 1 rows; action[:, t] is chosen AT states[:, t]
        reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value, slow = agent.value(feature), agent.slow_value(feature).mean
    baseline = value.mean.detach()  # the online critic bootstraps
    target = wb.returns.lambda_return(reward[:, 1:], cont[:, 1:], baseline[:, 1:], cfg.lam)
    weight = cont.cumprod(1)[:, :-1]  # starts with the cont of row 0
    scale = agent.return_scale(target)  # updated first, then read
    advantage = (target - baseline[:, :-1]) / scale
    policy = agent.actor(feature)[:, :-1]
    log_prob, entropy = policy.log_prob(action[:, :-1]), policy.entropy()
    losses = {
        "actor": -1.0 * weight * (log_prob * advantage + cfg.entropy * entropy),
        "critic": 1.0 * weight * (value[:, :-1].nll(target) + value[:, :-1].nll(slow[:, :-1])),
        "replay_critic": 0.3 * replay_critic_loss(agent, post, batch, target[:, 0], cfg, own_rows),
    }
    metrics = {"value": baseline, "return": target, "return_scale": scale, "entropy": entropy}
    return losses, metrics


def replay_critic_loss(agent, post, batch, first_return, cfg, own_rows):
    """The critic loss on the rows its own task played; other rows are of another policy."""
    boot = first_return.reshape(batch.reward.shape)  # of the imagined trajectory that starts there
    live = cfg.gamma * (1 - batch.is_terminal.float())
    lam = cfg.lam * (1 - batch.is_last.float())
    target = wb.returns.lambda_return(batch.reward[:, 1:], live[:, 1:], boot[:, 1:], lam[:, 1:])
    value = agent.value(post.feature())[:, :-1]
    slow = agent.slow_value(post.feature().detach()).mean[:, :-1]
    alive = (1 - batch.is_last.float())[:, :-1]
    return wb.losses.on_rows(alive * (value.nll(target) + value.nll(slow)), own_rows)


def update(agent, optimizer, mixture, cfg):
    """Train all modules on one mixture; returns the posterior states and metrics."""
    batch = mixture.batch
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        post, losses, metrics = world_model_loss(agent, batch, cfg)
        seen = post if cfg.reward_grad == "all" else post.detach()
        for place, name in enumerate(agent.heads):
            one, rows = agent.task(name), batch._replace(reward=mixture.reward[place])
            reward = one.reward(seen.feature()).nll(rows.reward)
            reward_loss = 1.0 * wb.losses.on_rows(reward, mixture.known[place])
            more, values = actor_critic_loss(one, seen, rows, cfg, mixture.task == place)
            losses |= {
                f"{name}/{key}": loss for key, loss in ({"reward": reward_loss} | more).items()
            }
            metrics |= {f"{name}/{key}": value for key, value in values.items()}
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    for name in agent.heads:
        agent.heads[name].slow_value.update(agent.heads[name].value)
    metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
    return post.detach(), {name: metric.detach().mean() for name, metric in metrics.items()}


def learn(train, agent, replay, counts):
    """One update on windows from replay, `counts` per task; writes the new latents back."""
    mixture = replay.sample(counts).to(wb.run.device_of(agent), non_blocking=True)
    batch = mixture.batch._replace(carry=agent.rssm.unpack(mixture.batch.carry), row=None)
    post, metrics = train(mixture._replace(batch=batch))
    replay.write_back(mixture, agent.rssm.pack(post.carry))
    return metrics


def task_suite(cfg: Config, tasks=()) -> wb.tasks.TaskSuite:
    """The base tasks, which the world model is made for, and other `tasks`."""
    make = functools.partial(
        wb.tasks.control,
        relabel=cfg.relabel,
        pixels=cfg.pixels,
        size=cfg.image,
        repeat=cfg.repeat,
    )
    return wb.tasks.TaskSuite(make, cfg.tasks, tasks, conditioned=cfg.conditioned)


def environments(cfg: Config, n: int, seed: int, task: str = "") -> wb.envs.EnvVector:
    task, cfg = task or cfg.tasks[0], dataclasses.replace(cfg, relabel=False)  # no features
    return task_suite(cfg, [task]).envs(task, n, seed=seed, workers=cfg.workers)


def build(cfg: Config, suite: wb.tasks.TaskSuite):
    """An agent without heads, and one optimiser for all its parameters."""
    agent = Agent(suite, cfg).to(wb.run.pick_device(cfg.device))
    optimizer = wb.optim.dreamer_optimizer(
        agent.parameters(), lr=cfg.lr, agc=cfg.agc, warmup=cfg.warmup
    )
    return agent, optimizer


def load(run: str | Path, device: str = "auto", task: str = ""):
    """The trained agent of one task (default: the first) in a run folder, and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    _, tasks = wb.tasks.tasks_of(run, cfg.tasks)
    agent, _ = build(cfg, task_suite(cfg, tasks))
    for name in tasks:
        agent.heads.add(name, agent.head(name))
    wb.run.load_module_state(agent, wb.run.Checkpoint(run).weights("agent"))
    return agent.eval().task(task or tasks[0]), cfg


@torch.no_grad()
def act(agent, obs, acting, is_first, mode: bool = False):
    """One action per environment: `(action, acting)`; `mode` takes the policy's mode."""
    device = wb.run.device_of(agent)
    obs = {key: obs[key].to(device) for key in agent.encoder.keys}  # no features
    with torch.autocast(device.type, torch.bfloat16, enabled=agent.cfg.bf16):
        embed, is_first = agent.encoder(obs), is_first.to(device)
        state = agent.rssm.observe_step(acting.dynamics, embed, acting.prev_action, is_first)
        policy = agent.actor(state.feature())
    action = policy.mode if mode else policy.sample()
    acting = wb.rssm.Acting(state.carry, action)  # padded; the environment gets no padding
    return action[:, : policy.size], acting


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    wanted, (base_tasks, tasks) = cfg.tasks, wb.tasks.tasks_of(cfg.logdir, cfg.tasks)
    changes, cfg = wb.tasks.changes(tasks, wanted), dataclasses.replace(cfg, tasks=base_tasks)
    suite = task_suite(cfg, [*tasks, *wanted])
    agent, optimizer = build(cfg, suite)
    train = wb.run.Captured(functools.partial(update, agent, optimizer, cfg=cfg))  # one CUDA graph
    relabel = {name: wb.tasks.control_reward(name) for name in suite.actions if cfg.relabel}
    replay = wb.replay.MixtureReplay(
        capacity=cfg.capacity,
        streams=cfg.envs,
        length=cfg.length,
        relabel=relabel,
        seed=cfg.seed,
    )
    weights = wb.tasks.LearningProgress() if cfg.progress else wb.tasks.balanced
    sampler = wb.tasks.TaskSampler(seed=cfg.seed, weights=weights)
    task_envs = wb.tasks.TaskEnvironments()
    train_ratio = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))
    parts = {"agent": agent, "optimizer": optimizer, "task_envs": task_envs, "replay": replay}
    parts |= {"sampler": sampler, "train_ratio": train_ratio, "log": log, "save": save}
    open_envs = functools.partial(suite.envs, n=cfg.envs, seed=cfg.seed, workers=cfg.workers)
    with wb.run.Run(cfg, __file__, parts, may_change=["judge"]) as run:
        print(changes, end="", flush=True)
        wb.tasks.set_tasks(tasks, agent, optimizer, replay, task_envs, open_envs)
        step, acted, updates = run.restore(step=0, acted=0, updates=0).values()
        wb.tasks.set_tasks(
            wanted, agent, optimizer, replay, task_envs, open_envs
        )  # a resumed run may name others
        while not run.must_stop(task_envs.stopped) and step < cfg.steps:
            for task, envs in task_envs:
                rows, acting = envs.rows, task_envs.acting[task]
                stored = rows._replace(prev_action=acting.prev_action)  # padded
                action, acting = act(agent.task(task), rows.obs, acting, rows.is_first)
                task_envs.acting[task], packed = acting, agent.rssm.pack(acting.dynamics)
                replay.add(task, **stored._asdict(), carry=packed)
                envs.send(action)  # workers step while the agent learns
            step, acted = step + cfg.envs, acted + cfg.envs * len(task_envs.tasks)
            for _ in range(train_ratio(acted) * (len(replay) >= cfg.prefill)):  # no catching up
                counts = sampler.counts(task_envs.tasks, cfg.batch)
                run.logger.add(learn(train, agent, replay, counts))
                updates += 1
            for task, envs in task_envs:
                envs.receive()
                run.logger.played(step, envs.finished, envs.failures, task=task)
                sampler.observe(task, [score for _, score, _ in envs.finished])
            if log(step):
                run.log(step, updates=updates, episodes=run.logger.episodes)
            if save(step):
                run.save(step=step, acted=acted, updates=updates, tasks=task_envs.tasks)
            run.show(step, updates, **{t: run.logger.score_of(t) for t in task_envs.tasks})
        completed = run.finish(step=step, acted=acted, updates=updates, tasks=task_envs.tasks)
        task_envs.close()
        wb.tasks.plot_tasks(run.folder)
        if completed:
            agent.eval()
            print(wb.tasks.judge(run.folder, act, agent, suite, cfg.judge, cfg.seed))
    print(f"play it with:\n  {run.command('evaluate.py', '--task', 'TASK')}")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="tasks", compare=wb.evaluate.compare))

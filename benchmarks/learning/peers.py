r"""PPO, SAC or DQN of stable-baselines3 on one of our environments, in files like those of a run.

    python -m benchmarks.learning.peers ppo --env CartPole-v1 --steps 200000 --logdir logs/ppo
    python -m benchmarks.learning.peers sac --env worldblocks.envs:dmc --repeat 2 \
        --env_args '{"task": "cartpole_swingup", "repeat": 2}' --steps 50000 --logdir logs/sac

Needs the extra `bench`. It writes `config.json`, `episodes.jsonl` (`step` counts the agent's
actions, as in a run) and `result.json`. At each of `--marks` training pauses for 100 episodes on
unseen seeds, with sampled actions for PPO and SAC and greedy ones for DQN. The policy is
`CnnPolicy` for an image and `MlpPolicy` for a vector.
"""

import argparse
import datetime
import functools
import importlib
import json
import operator
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import worldblocks as wb
from benchmarks.learning import PACKAGES
from benchmarks.learning.gym_bridge import GymBridge
from benchmarks.provenance import machine, versions

UNSEEN = 1_000_000  # seed of the episodes of an evaluation, as in recipes/evaluate.py
NETWORK = {"net_arch": [256, 256]}

# "default" are the defaults of stable-baselines3; the others are the settings that
# rl-baselines3-zoo (commit 22e3ff2) lists for CartPole-v1.
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"algorithm": "PPO", "source": "default"},
    "ppo_tuned": {
        "algorithm": "PPO",
        "source": "rl-baselines3-zoo, CartPole-v1",
        "envs": 8,
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "learning_rate": "linear 1e-3",
        "clip_range": "linear 0.2",
    },
    "dqn": {"algorithm": "DQN", "source": "default"},
    "dqn_tuned": {
        "algorithm": "DQN",
        "source": "rl-baselines3-zoo, CartPole-v1",
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1000,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_steps": 8000,  # 0.16 of its 50 000 steps
        "exploration_final_eps": 0.04,
        "policy_kwargs": NETWORK,
    },
    "sac": {"algorithm": "SAC", "source": "default"},
}


def environment(name: str, arguments: dict[str, Any]) -> gymnasium.Env:
    """Make an environment from a gymnasium id or `package.module:factory`."""
    if ":" not in name:
        return gymnasium.make(name, **arguments)
    module, _, factory = name.partition(":")
    made = getattr(importlib.import_module(module), factory)(**arguments)
    return made if isinstance(made, gymnasium.Env) else GymBridge(made)


def hyperparameters(options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Arguments of the constructor; `linear 1e-3` decays from 1e-3 to 0 over the run."""
    made = dict(options)
    for name, value in options.items():
        if isinstance(value, str) and value.startswith("linear "):
            made[name] = functools.partial(operator.mul, float(value.split()[1]))
    if "exploration_steps" in made:
        made["exploration_fraction"] = min(1.0, made.pop("exploration_steps") / steps)
    return made


class Record(BaseCallback):
    """Writes finished episodes, evaluates at the marks, stops when the score is `enough`."""

    def __init__(
        self, folder: Path, marks: list[int], evaluate: Callable, enough: float | None
    ) -> None:
        super().__init__()
        self.sink = wb.run.JsonlSink(folder / "episodes.jsonl")
        self.marks, self.evaluate, self.enough = list(marks), evaluate, enough
        self.evaluations: list[dict[str, float]] = []
        self.scores: list[float] = []
        self.reached = False

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                episode = {"score": info["episode"]["r"], "length": info["episode"]["l"]}
                self.sink.write(self.num_timesteps, episode)
                self.scores = [*self.scores[-9:], info["episode"]["r"]]
                full = self.enough is not None and len(self.scores) == 10
                self.reached |= full and statistics.fmean(self.scores) >= self.enough
        if self.marks and self.num_timesteps >= self.marks[0]:
            self.marks.pop(0)
            self.evaluations.append({"step": self.num_timesteps, **self.evaluate(self.model)})
        return bool(self.marks) or not self.reached


def play(model: Any, envs: Any, episodes: int, greedy: bool) -> dict[str, float]:
    """Mean and standard deviation of episode scores, with an equal number from each environment."""
    share = episodes // envs.num_envs
    scores: list[list[float]] = [[] for _ in range(envs.num_envs)]
    envs.seed(UNSEEN)
    with torch.random.fork_rng():  # training continues as without the evaluation
        obs = envs.reset()
        while any(len(own) < share for own in scores):
            action, _ = model.predict(obs, deterministic=greedy)
            obs, _, _, infos = envs.step(action)
            for own, info in zip(scores, infos, strict=True):
                if "episode" in info and len(own) < share:
                    own.append(info["episode"]["r"])
    flat = [score for own in scores for score in own]
    return {"mean": statistics.fmean(flat), "std": statistics.stdev(flat), "episodes": len(flat)}


def main(cfg: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    options = dict(SETTINGS[cfg.settings])
    algorithm, source, count = (
        options.pop("algorithm"),
        options.pop("source"),
        options.pop("envs", 1),
    )
    arguments = json.loads(cfg.env_args)
    config = {k: v for k, v in vars(cfg).items() if k != "logdir"}
    config |= {"recipe": "stable-baselines3", "algorithm": algorithm, "source": source}
    config |= {"hyperparameters": options, "envs": count, "env_args": arguments}
    folder = wb.run.run_folder(cfg.logdir, config, resume=False)

    def vector(n: int) -> Any:
        return make_vec_env(lambda: environment(cfg.env, arguments), n_envs=n, seed=cfg.seed)

    tests = vector(10)
    greedy = algorithm == "DQN"
    marks = sorted(mark for mark in cfg.marks if mark <= cfg.steps)
    record = Record(folder, marks, lambda model: play(model, tests, 100, greedy), cfg.enough)
    made = hyperparameters(options, cfg.steps)
    policy = "CnnPolicy" if len(tests.observation_space.shape) == 3 else "MlpPolicy"
    model = getattr(sb3, algorithm)(policy, vector(count), seed=cfg.seed, device="cpu", **made)
    started = time.monotonic()
    model.learn(cfg.steps, callback=record)
    minutes = (time.monotonic() - started) / 60
    result = {"name": cfg.settings, "seed": cfg.seed, "evaluations": record.evaluations}
    result |= {"policy": "greedy" if greedy else "sampled", "steps": model.num_timesteps}
    result |= {"parameters": sum(p.numel() for p in model.policy.parameters() if p.requires_grad)}
    result |= {"minutes": round(minutes, 1)}
    result |= {"versions": versions([*PACKAGES, "stable-baselines3"]), "machine": machine()}
    result |= {"date": datetime.date.today().isoformat()}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record.evaluations))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("settings", choices=sorted(SETTINGS))
    made.add_argument("--env", required=True, help="a gymnasium id or package.module:factory")
    made.add_argument("--env_args", default="{}", help="JSON text of keyword arguments")
    made.add_argument("--repeat", type=int, default=1, help="environment steps per action")
    made.add_argument("--steps", type=int, required=True, help="actions")
    made.add_argument(
        "--marks", type=int, nargs="*", default=[], help="actions at which to evaluate"
    )
    made.add_argument("--enough", type=float, help="stop when the mean of 10 episodes is this")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--logdir", required=True)
    return made


if __name__ == "__main__":
    main(parser().parse_args())

"""Compare the agent of each task with a random policy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch.utils import _pytree as pytree

from worldblocks.envs import Rows
from worldblocks.evaluate import AgentPolicy, play, random_policy, verdict
from worldblocks.run.saves.durable import replace_text
from worldblocks.tasks.picture import plot_tasks
from worldblocks.tasks.suite import TaskSuite

MAPPED = 500  # states per task on the map of latents


class Latents:
    """An agent's policy that also keeps the carries of visited states, evenly spaced in time.

    Args:
        policy: the agent's policy.
        keep: number of states to keep; up to twice as many are kept.
        n: number of environments.
    """

    def __init__(self, policy: AgentPolicy, keep: int, n: int) -> None:
        self.policy, self._keep = policy, -(-keep // n)
        self._kept: list[torch.Tensor] = []
        self._calls, self._every = 0, 1

    def __call__(self, rows: Rows) -> torch.Tensor:
        action = self.policy(rows)
        if self._calls % self._every == 0:
            parts = pytree.tree_leaves(self.policy.acting.dynamics)
            self._kept.append(torch.cat([x.flatten(1).float() for x in parts], -1).cpu())
        if len(self._kept) == 2 * self._keep:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self._calls += 1
        return action

    @property
    def features(self) -> Float32[torch.Tensor, "batch feature"]:
        """The kept carries, flattened; for a GRU they are the features of its states."""
        return torch.cat(self._kept)


def judge(
    run: Path | str,
    act: Callable[..., Any],
    agent: Any,
    suite: TaskSuite,
    episodes: int,
    seed: int,
    *,
    envs: int = 10,
    gated: bool = True,
) -> str:
    """Play each task with a random policy and its agent; write `scores.json` and `tasks.png`.

    Args:
        run: the run folder.
        act: as in `wb.evaluate.AgentPolicy`.
        agent: has `heads`; `task(name)` returns the agent of one task.
        suite: opens the environments; both policies play the same episodes.
        episodes: number per policy and task; with 0 nothing is played or written.
        seed: seed of the run; episodes use it plus a million.
        envs: number of environments played in parallel.
        gated: as in `wb.evaluate.verdict`.

    Returns:
        The text of `wb.evaluate.verdict`.
    """
    judged: dict[str, dict[str, Any]] = {}
    latents = {}
    for task in agent.heads if episodes else ():
        n, episode_seed = min(envs, episodes), seed + 1_000_000
        random, same = (suite.envs(task, n, seed=episode_seed) for _ in range(2))
        policy = Latents(AgentPolicy(act, agent.task(task), n), MAPPED, n)
        scores = {"random": play(random_policy(random, seed), random, episodes)}
        scores["trained"] = play(policy, same, episodes)
        judged[task] = {name: {"scores": own} for name, own in scores.items()}
        latents[task] = policy.features
    if judged:
        replace_text(Path(run) / "scores.json", json.dumps(judged) + "\n")
        plot_tasks(run, latents=latents)
    return verdict(judged, gated)

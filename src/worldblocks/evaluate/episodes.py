"""Play episodes with a policy: for their scores, or for their rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from worldblocks.envs import EnvVector, Rows
from worldblocks.evaluate.policies import AgentPolicy, Policy
from worldblocks.replay import Batch

LONGEST = 30_000
"""Actions in an episode after which `play` gives up; the longest of Atari has 27,000."""
Watch = Callable[[Rows, list[list[float]]], Any]
"""Called with the rows and the scores of each environment so far; stops by returning true."""


class Stopped(RuntimeError):
    """The environments failed too often while a policy played, or an episode does not end.

    Attributes:
        scores: scores of the episodes finished before.
    """

    def __init__(self, reason: str, scores: Sequence[float] = ()) -> None:
        super().__init__(reason)
        self.scores = list(scores)


def play(
    policy: Policy,
    envs: EnvVector,
    episodes: int,
    *,
    watch: Watch | None = None,
    longest: int = LONGEST,
) -> list[float]:
    """Play complete episodes in all environments in parallel and return their scores.

    The number of episodes per environment is fixed beforehand, because counting the episodes that
    end first would favour short ones.

    Args:
        policy: maps the rows of all environments to flat actions, `env action`.
        envs: the environments; they are reset first and closed at the end.
        episodes: total number of episodes.
        watch: `watch(rows, scores)` is called with every row, including last ones, before the
            policy acts on it, and with the scores of each environment so far. It stops the play by
            returning true.
        longest: number of actions in one episode after which the play stops.

    Returns:
        The scores, ordered by environment; fewer than `episodes` if `watch` stopped the play.

    Raises:
        ValueError: `episodes` is less than one.
        Stopped: the environments failed too often, or an episode is longer than `longest`; has the
            last traceback, or a sentence, and the scores so far.
    """
    if episodes < 1:
        raise ValueError(f"play was asked for {episodes} episodes; it takes at least one")
    quota = [len(range(env, episodes, len(envs))) for env in range(len(envs))]
    scores: list[list[float]] = [[] for _ in quota]
    taken = [0 for _ in quota]  # actions in the present episode

    def finished() -> list[float]:
        return [score for own in scores for score in own]

    try:
        rows = envs.reset()
        while not (watch and watch(rows, scores)):
            if all(len(own) == count for own, count in zip(scores, quota, strict=True)):
                break
            if envs.stopped:
                raise Stopped(envs.stopped, finished())
            rows = envs.step(policy(rows))
            taken = [
                0 if first else actions + 1
                for first, actions in zip(rows.is_first.tolist(), taken, strict=True)
            ]
            for env, score, _ in envs.finished:
                if len(scores[env]) < quota[env]:
                    scores[env].append(score)
            if any(
                actions >= longest and len(own) < count
                for actions, own, count in zip(taken, scores, quota, strict=True)
            ):
                raise Stopped(
                    f"an episode has not ended after {longest:,} actions; if the environment has "
                    f"no end, give it a time limit; else allow longer episodes (--longest)",
                    finished(),
                )
    finally:
        envs.close()
    return finished()


def collect(policy: AgentPolicy, envs: EnvVector, steps: int) -> Batch:
    """Play with an agent and return the rows of all environments as one batch `env time ...`.

    Args:
        policy: the agent's policy; its `acting.prev_action` is stored with each row, with the
            padding that the environments do not get.
        envs: the environments; they are reset first and closed at the end.
        steps: number of rows per environment.

    Raises:
        Stopped: the environments failed too often; has the last traceback.
    """
    played: list[Rows] = []
    try:
        rows = envs.reset()
        for _ in range(steps):
            prev_action = policy.acting.prev_action.to(rows.reward.device)
            played.append(rows._replace(prev_action=prev_action))
            rows = envs.step(policy(rows))
            if envs.stopped:
                raise Stopped(envs.stopped)
    finally:
        envs.close()
    rows = pytree.tree_map(lambda *x: torch.stack(x, 1), *played)
    return Batch(**rows._asdict(), carry=None, row=None)

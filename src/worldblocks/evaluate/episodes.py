"""Episodes of a policy: their scores, or their rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from worldblocks.envs import EnvVector, Rows
from worldblocks.evaluate.policies import AgentPolicy, Policy
from worldblocks.replay import Batch

Watch = Callable[[Rows, list[list[float]]], Any]
"""Sees rows and the scores of each environment so far; what is true stops the play."""


class Stopped(RuntimeError):
    """The environments failed too often while a policy played.

    Attributes:
        scores: of the episodes that were finished before.
    """

    def __init__(self, why: str, scores: Sequence[float] = ()) -> None:
        super().__init__(why)
        self.scores = list(scores)


def play(
    policy: Policy, envs: EnvVector, episodes: int, *, watch: Watch | None = None
) -> list[float]:
    """Scores of whole episodes, played side by side from a reset on.

    The number that each environment plays is decided beforehand: counting whichever episodes end
    first would favour short ones.

    Args:
        policy: rows of all environments to a flat action of each, `env action`.
        envs: environments, reset here and closed at the end.
        episodes: how many in all.
        watch: `watch(rows, scores)` sees every row, the last ones included, before the policy acts
            on it, and the scores of each environment so far. It stops the play by returning true.

    Returns:
        The scores, those of the first environment first; fewer where `watch` stopped the play.

    Raises:
        ValueError: fewer than one episode.
        Stopped: the environments failed too often; with the last traceback and the scores so far.
    """
    if episodes < 1:
        raise ValueError(f"{episodes} episodes were to be played; it takes at least one")
    quota = [len(range(env, episodes, len(envs))) for env in range(len(envs))]
    scores: list[list[float]] = [[] for _ in quota]

    def finished() -> list[float]:
        return [score for own in scores for score in own]

    try:
        rows = envs.reset()
        while not (watch and watch(rows, scores)):
            if all(len(own) == due for own, due in zip(scores, quota, strict=True)):
                break
            if envs.stopped:
                raise Stopped(envs.stopped, finished())
            rows = envs.step(policy(rows))
            for env, score, _ in envs.finished:
                if len(scores[env]) < quota[env]:
                    scores[env].append(score)
    finally:
        envs.close()
    return finished()


def collect(policy: AgentPolicy, envs: EnvVector, steps: int) -> Batch:
    """The rows that an agent meets, of all environments as one batch `env time ...`.

    Args:
        policy: an agent's; its `acting.prev_action` is stored with each row.
        envs: environments, reset here and closed at the end.
        steps: rows of each environment.

    Raises:
        Stopped: the environments failed too often; with the last traceback.
    """
    played: list[tuple[Rows, Any]] = []
    try:
        rows = envs.reset()
        for _ in range(steps):
            played.append((rows, policy.acting.prev_action.cpu()))
            rows = envs.step(policy(rows))
            if envs.stopped:
                raise Stopped(envs.stopped)
    finally:
        envs.close()
    rows, prev_action = pytree.tree_map(lambda *x: torch.stack(x, 1), *played)
    return Batch(**rows._asdict(), prev_action=prev_action, carry=None, row=None)

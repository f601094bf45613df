"""Play held-out episodes, cut them into windows and judge a world model on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.diagnose.comparisons import (
    image_checks,
    realised_return,
    reward_check,
    value_check,
    vector_checks,
)
from worldblocks.diagnose.rollouts import (
    CONTEXT,
    LENGTH,
    SAMPLES,
    WINDOWS,
    Agent,
    images,
    imagined,
    joined,
    truths,
    vector_keys,
    vectors,
)
from worldblocks.envs import EnvVector
from worldblocks.evaluate import AgentPolicy, Check, Stopped, collect, write_report
from worldblocks.replay import Batch, MixtureReplay
from worldblocks.rssm import AnyState

NO_SCORE = "not judged, because a good score takes a GPU, or hours on a CPU"


class TooShort(ValueError):
    """No held-out window lies within one episode."""


@torch.no_grad()
def judge(agent: Agent, batch: Batch, *, gamma: float, seen: Batch) -> list[Check]:
    """Check a world model on held-out rows: open-loop prediction, reward and value.

    A prediction is the mean over `SAMPLES` imagined futures, because the mean minimises the squared
    error. Where no window of `LENGTH` rows lies within one episode, these checks are skipped, and
    the report says so. Images are compared in [0, 1], numbers in symlog space, classes as one-hots.
    An agent that observes both images and vectors is judged on both.

    Args:
        agent: the agent to judge.
        batch: sequences `env time ...` from the first row of an episode on, as returned by
            `wb.evaluate.collect`.
        gamma: the discount of the agent's value.
        seen: rows `batch time ...` that the agent was trained on. Their mean observation is one of
            the guesses to beat.
    """
    batch = batch.to(next(agent.rssm.parameters()).device)
    post = posterior(agent, batch)
    returns, known = realised_return(batch.reward, batch.is_last, batch.is_terminal, gamma)
    feature = post.feature()
    return [
        *_open_loop_checks(agent, batch, post, seen),
        reward_check(batch.reward, agent.reward(feature).mean),
        value_check(agent.value(feature).mean, returns, known),
        Check("score", None, NO_SCORE),
    ]


def _open_loop_checks(agent: Agent, batch: Batch, post: AnyState, seen: Batch) -> list[Check]:
    """Open-loop prediction of every kind of observation; says so if there is no window."""
    try:
        cuts = windows(batch, post, LENGTH).map(lambda x: x[:WINDOWS])
    except TooShort as reason:
        return [Check("open-loop prediction", None, f"skipped: {reason}")]
    mixed = shuffle(cuts.prev_action)
    right, wrong = (imagined(agent, cuts, act, SAMPLES) for act in (cuts.prev_action, mixed))
    truth, trained = truths(agent, cuts), truths(agent, seen.to(batch.reward.device))
    checks = []
    if agent.encoder.image_keys:
        frames = joined([cuts.obs[key] for key in agent.encoder.image_keys])
        guesses = images(agent, right), images(agent, wrong)
        checks += image_checks(frames, *guesses, CONTEXT, images(agent, trained).mean((0, 1)))
    if vector_keys(agent):
        real, good, bad = (vectors(agent, part) for part in (truth, right, wrong))
        checks += vector_checks(real, good, bad, CONTEXT, vectors(agent, trained).mean((0, 1)))
    return checks


def report(
    run: Path,
    agent: Any,
    act: Callable[..., Any],
    envs: EnvVector,
    *,
    steps: int,
    gamma: float,
    seen: Batch | None,
) -> str:
    """Play `steps` rows, judge the agent on them and write the report into the run folder.

    Args:
        run: the folder for `report.txt` and `report.json`.
        agent, act: as in `wb.evaluate.AgentPolicy`.
        envs: the environments; they are closed at the end.
        steps: number of rows over all environments.
        gamma, seen: as in `judge`; None if replay holds no window.

    Returns:
        The text of the report, or the reason for its absence: the environments failed too often, or
        the agent was trained on nothing.
    """
    if seen is None:
        envs.close()
        return "no report: replay holds no window, so the agent was not trained; make more --steps"
    try:
        played = collect(AgentPolicy(act, agent, len(envs)), envs, steps // len(envs))
        checks = judge(agent, played, gamma=gamma, seen=seen)
    except Stopped as reason:
        return f"no report: {reason}"
    return write_report(run, checks)


def task_reports(
    run: Path,
    agent: Any,
    act: Callable[..., Any],
    envs: Callable[..., EnvVector],
    replay: MixtureReplay,
    *,
    steps: int,
    gamma: float,
) -> str:
    """The `report` of every task of a multi-task agent, each in a folder of the task's name.

    Args:
        run: the run folder.
        agent: has `heads` by task; `agent.task(name)` returns the agent of one task.
        act: as in `report`.
        envs: `envs(task, n, seed=…)` creates `n` environments of a task.
        replay: rows that the agent was trained on.
        steps: number of held-out rows per task; 0 for no report.
        gamma: as in `judge`.

    Returns:
        The reports, each preceded by its task name.
    """
    texts = []
    for task in agent.heads if steps else ():
        held_out = envs(task, 4, seed=1_000_000)
        seen = replay.sample({task: 64}).batch if len(replay[task]) else None
        (run / task).mkdir(exist_ok=True)
        text = report(
            run / task, agent.task(task), act, held_out, steps=steps, gamma=gamma, seen=seen
        )
        texts.append(f"{task}\n{text}")
    return "\n".join(texts)


def posterior(agent: Agent, batch: Batch) -> AnyState:
    """The posterior states of sequences, from the initial carry."""
    carry = agent.rssm.initial(len(batch.reward))
    return agent.rssm.observe(carry, agent.encoder(batch.obs), batch.prev_action, batch.is_first)


def shuffle(actions: Tensor) -> Tensor:
    """The actions in random order over all sequences and rows."""
    flat = actions.flatten(0, 1)
    return flat[torch.randperm(len(flat))].view_as(actions)


def windows(batch: Batch, states: AnyState, size: int) -> Batch:
    """Cut sequences `env time ...` into consecutive windows of `size` rows, from row 1 on.

    The carry of a window is that of the state before it. Windows in which an episode begins after
    the context are dropped, because imagination does not cross the end of an episode.

    Raises:
        TooShort: none is left.
        ValueError: the sequences are too short.
    """
    if batch.reward.shape[1] <= size:
        raise ValueError(
            f"windows of {size} rows need sequences of at least {size + 1}, got "
            f"{batch.reward.shape[1]}"
        )
    cuts = cut(batch, states, size)
    whole = ~cuts.is_first[:, CONTEXT:].any(1)
    if not whole.any():
        raise TooShort(
            f"none of {len(whole)} held-out windows of {size} rows lies within one episode; this "
            f"needs longer episodes, or more rows"
        )
    return cuts.map(lambda x: x[whole])


def cut(batch: Batch, states: AnyState, size: int) -> Batch:
    """Like `windows`, with those in which an episode begins."""
    count = (batch.reward.shape[1] - 1) // size

    def pieces(x: Tensor) -> Tensor:
        return x[:, 1 : 1 + count * size].unflatten(1, (count, size)).flatten(0, 1)

    carry = pytree.tree_map(lambda x: x[:, : count * size : size].flatten(0, 1), states.carry)
    return batch.map(pieces)._replace(carry=carry)

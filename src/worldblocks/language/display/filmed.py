"""Videos of episodes, with captions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from worldblocks.envs import EnvVector, Rows
from worldblocks.evaluate import AgentPolicy, play
from worldblocks.language.search import RewardSearch
from worldblocks.run.log.logger import Logger
from worldblocks.run.video import subtitled

MOST_FRAMES = 200


def film(
    env: Any, policy: Callable[[Any], Any], words: Sequence[str], *, seed: int
) -> UInt8[np.ndarray, "time height width 3"]:
    """Frames of one episode, at most 200, with captions. Closes the environment.

    Args:
        env: its `describer.frame()` renders a frame.
        policy: maps rows of one environment to a flat action, `1 action`.
        words: lines written on every frame, above one with the step and the score so far.
        seed: of the episode.

    Raises:
        RuntimeError: rendering is not available.
    """
    score, frames, texts = 0.0, [], []

    def watch(rows: Rows, _: Any) -> bool:
        nonlocal score
        score += rows.reward.item()
        frames.append(np.asarray(env.describer.frame()))
        texts.append([*words, f"step {len(frames) - 1}, environment's reward {score:.2f}"])
        return len(frames) == MOST_FRAMES

    play(policy, EnvVector([env], seed=seed), 1, watch=watch)
    return subtitled(np.stack(frames), texts)


def show(
    act: Callable[..., Any],
    agent: Any,
    search: RewardSearch,
    env: Any,
    envs: EnvVector,
    episodes: int,
    logger: Logger,
    step: int,
) -> str:
    """Evaluate the most probable candidate and log a video; returns a sentence with the result.

    Args:
        act: as in `wb.evaluate.AgentPolicy`.
        agent: the first argument of `act`; plays the most probable candidate.
        search: the candidates and their posterior.
        env: filmed, if rendering is available, and closed.
        envs: used for the evaluation, and closed.
        episodes: number of episodes.
        logger, step: where to log the video and the success rate.
    """
    goal, asked = search.phrase(search.best), search.proposal.instruction
    share = search.metrics[f"belief/{goal}"]
    words = [f"asked: {asked}", f"played: {goal} ({share:.0%})"]
    try:
        frames = film(env, AgentPolicy(act, agent, 1), words, seed=1_000_000)
        logger.video(step, "episode", frames, fps=5)
    except (ImportError, OSError, RuntimeError) as error:  # go on with the scores
        print(f"no video: {error}")
    scores = play(AgentPolicy(act, agent, len(envs)), envs, episodes)
    won = sum(map(search.success, scores)) / len(scores)
    logger.write(step, {"judged/success": won, "judged/episodes": len(scores)})
    return f"success {won:.2f} in {len(scores)} episodes played for {goal!r}"

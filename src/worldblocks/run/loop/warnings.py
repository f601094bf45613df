"""What a run cannot do with its options, told when it starts, or as soon as it is known."""

from typing import Any

LONG = 10_000
"""Steps without the end of an episode after which a run says so."""


def at_the_start(cfg: Any) -> list[str]:
    """A sentence for each thing that the run of a configuration will never do.

    Args:
        cfg: `steps` and `log_every` are read, and with a replay `envs`, `capacity`, `prefill`,
            `length`, `train_ratio`. A window has one row before it, which gives its initial carry.
    """
    options, told = vars(cfg), []
    steps, every = cfg.steps, options.get("log_every", 1)
    if not 0 < every <= steps:
        told.append(
            f"this run will write no line of metrics: --log-every is {every}, --steps is {steps}"
        )
    if not {"envs", "capacity", "prefill", "length", "train_ratio"} <= options.keys():
        return told
    rows = -(-steps // cfg.envs)  # of each environment
    starts = cfg.envs * min(max(0, rows - cfg.length), cfg.capacity // cfg.envs)
    if cfg.train_ratio == 0:
        told.append("this run will make no update: --train-ratio is 0")
    elif starts < cfg.prefill:
        told.append(
            f"this run will make no update: --steps {steps} in --envs {cfg.envs} give {starts} "
            f"windows of --length {cfg.length}, and training starts after --prefill {cfg.prefill}; "
            f"use more --steps, or a smaller --prefill or --length"
        )
    return told


def no_episode(step: int) -> str:
    """That no episode has ended, and what to do."""
    return (
        f"no episode has ended in {step:,} steps, so there is no score yet; if the environment "
        f"has no end, give it a time limit, such as gymnasium's wrapper TimeLimit"
    )

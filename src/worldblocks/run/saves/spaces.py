"""The spaces that a run was trained on, recorded so that a changed environment can be named."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.durable import replace_text
from worldblocks.run.saves.weights import load_module_state

FILE = "spaces.json"


def record_spaces(folder: Path, envs: Any) -> None:
    """Write the observations and actions of environments into a run folder."""
    replace_text(folder / FILE, json.dumps(_spaces(envs), indent=2) + "\n")


def changed_spaces(folder: Path | str, envs: Any) -> str:
    """How environments differ from those of a run, in a sentence; "" if they do not.

    Also "" for a run that recorded none, as those of earlier versions.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return ""
    there, here, told = json.loads(path.read_text(encoding="utf-8")), _spaces(envs), []
    for kind, spaces in here.items():
        for key in sorted(spaces.keys() | there[kind].keys()):
            then, now = (own[kind].get(key, "absent") for own in (there, here))
            if then != now:
                told.append(f"{kind} {key!r} was {then} and is {now}")
    if not told:
        return ""
    return (
        f"the environment of {folder} has changed since: {'; '.join(told)}; load it with the "
        f"environment that it was trained on"
    )


def load_agent(agent: nn.Module, run: Path | str, envs: Any) -> None:
    """Load the agent of a run, made for the spaces of `envs`.

    Args:
        agent: gets the weights that the run saved as `agent`.
        run: the run folder.
        envs: has `observation` and `action`, such as an `EnvVector`; may be closed.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: the environment has changed, or the checkpoint is of another model.
    """
    try:
        load_module_state(agent, Checkpoint(run).weights("agent"))
    except ValueError as error:
        if changed := changed_spaces(run, envs):
            raise ValueError(changed) from error
        raise


def _spaces(envs: Any) -> dict[str, dict[str, str]]:
    both = {"observation": envs.observation, "action": envs.action}
    return {
        kind: {key: repr(space) for key, space in spaces.items()} for kind, spaces in both.items()
    }

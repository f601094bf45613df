"""What a run depends on besides its configuration: spaces, and versions of packages."""

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.durable import replace_text
from worldblocks.run.saves.weights import load_module_state

FILE = "environment.json"
PACKAGES = ("worldblocks", "torch", "numpy", "transformers")
PACKAGES += ("gymnasium", "ale-py", "mujoco", "dm-control", "minigrid", "crafter")


def record_environment(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write the spaces of a run's environments, and the versions of packages, into its folder."""
    found = {"spaces": _spaces(parts), "versions": _versions()}
    replace_text(folder / FILE, json.dumps(found, indent=2) + "\n")


def check_same_spaces(folder: Path | str, parts: Mapping[str, Any]) -> None:
    """Check that environments have the spaces of those that a run was trained in.

    Tasks that only one of both has are not compared, and a run of an earlier version, which
    recorded nothing, passes.

    Raises:
        ValueError: they have others; names each.
    """
    then, now, changed = _recorded(folder).get("spaces", {}), _spaces(parts), []
    for task in sorted(then.keys() & now.keys()):
        for name in sorted(then[task].keys() | now[task].keys()):
            before, after = (own[task].get(name, "absent") for own in (then, now))
            if before != after:
                of = f" of {task}" if task else ""
                changed.append(f"{name}{of} was {before} and is {after}")
    if changed:
        raise ValueError(
            f"the environment, or the data, of {folder} has changed since: {'; '.join(changed)}; "
            f"use what the run was trained on"
        )


def changed_versions(folder: Path | str) -> str:
    """A sentence on the packages that a run was started with in another version; "" if none."""
    then, now = _recorded(folder).get("versions", {}), _versions()
    changed = [
        f"{name} {then[name]} (here {now[name]})"
        for name in sorted(then.keys() & now.keys())
        if then[name] != now[name]
    ]
    if not changed:
        return ""
    return f"{folder} was started with {', '.join(changed)}; its numbers may differ from now on"


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
    weights = Checkpoint(run).weights("agent")
    check_same_spaces(run, {"envs": envs})
    load_module_state(agent, weights)


def _recorded(folder: Path | str) -> dict[str, Any]:
    """What `record_environment` wrote; nothing if that is lost, as only comparisons read it."""
    with suppress(OSError, ValueError):
        found = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _spaces(parts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The spaces by name, for each task, or for "" where a run has one."""
    found = {}
    for part in parts.values():
        several = getattr(part, "envs", None)  # as `wb.tasks.TaskEnvironments` has
        for task, envs in several.items() if isinstance(several, dict) else [("", part)]:
            if hasattr(envs, "observation") and hasattr(envs, "action"):
                found[task] = {
                    f"{kind} {key!r}": repr(space)
                    for kind in ("observation", "action")
                    for key, space in getattr(envs, kind).items()
                }
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

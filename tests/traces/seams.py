"""The functions whose calls are recorded: the only file to change when one moves."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.utils import _pytree as pytree

import worldblocks as wb


class Seam(NamedTuple):
    """A function whose calls are events.

    Attributes:
        event: its name in a trace.
        owner: the class or module that has the function.
        name: the function's name there.
        about: the machine-independent part (steps, names), from the arguments by name and the
            result.
        values: the part that is equal to the bit on one machine, from the same two.
        runs: whether the function is run; pictures are skipped.
    """

    event: str
    owner: Any
    name: str
    about: Callable[[dict[str, Any], Any], dict[str, Any]]
    values: Callable[[dict[str, Any], Any], Any]
    runs: bool = True


def row(given: dict[str, Any]) -> dict[str, Any]:
    """A row of every stream by name; the carry is a list, so names in it do not count."""
    return {**given, "self": None, "carry": pytree.tree_leaves(given["carry"])}


def seen(envs: wb.envs.EnvVector) -> dict[str, Any]:
    """What an action is chosen for, by name; the action before it is in the event `add`."""
    return {name: x for name, x in envs.rows._asdict().items() if name != "prev_action"}


def losses(result: Any) -> dict[str, float]:
    """The losses among the metrics of an `update`, which returns them alone or last."""
    metrics = result[-1] if isinstance(result, tuple) else result
    found = {name: x for name, x in metrics.items() if name.startswith("loss/")}
    return {name.removeprefix("loss/"): float(str(x.numpy())) for name, x in found.items()}


def stored(replay: wb.replay.SequenceReplay) -> dict[str, Any]:
    """All rows in a replay, by name, oldest first."""
    rings = replay._rings
    [oldest, *_], [count, *_] = rings.stored.oldest.tolist(), rings.count.tolist()
    slots = [time % rings.rows for time in range(oldest, count)]  # streams advance together
    found = {name: tensor[:, slots] for name, tensor in rings.tensors.items()}
    carry = [found.pop(name) for name in rings.layout if name.startswith("carry")]
    return {**found, "carry": carry}


ENVS, REPLAY, LOGGER = wb.envs.EnvVector, wb.replay.SequenceReplay, wb.run.Logger
SEAMS = [
    Seam("act", ENVS, "send", lambda a, _: {}, lambda a, _: [seen(a["self"]), a["action"]]),
    Seam("add", REPLAY, "add", lambda a, _: {}, lambda a, _: row(a)),
    Seam(
        "write_back",
        REPLAY,
        "write_back",
        lambda a, _: {"rows": list(a["row"].shape)},
        lambda a, _: [a["row"], *pytree.tree_leaves(a["carry"])],
    ),
    Seam(
        "episode",
        LOGGER,
        "episode",
        lambda a, _: {"step": a["step"], "length": a["length"], "task": a.get("task", "")},
        lambda a, _: a["score"],
    ),
    Seam(
        "log",
        LOGGER,
        "write",
        lambda a, figures: {"step": a["step"], "names": sorted(figures)},
        lambda a, figures: figures,
    ),
    Seam(
        "video",
        LOGGER,
        "video",
        lambda a, _: {"step": a["step"], "name": a["name"], "shape": list(a["frames"].shape)},
        lambda a, _: a["frames"],
        runs=False,
    ),
    Seam(
        "save",
        wb.run.Session,
        "save",
        lambda a, _: {k: x for k, x in a["position"].items() if isinstance(x, int)},
        lambda a, _: pytree.tree_leaves(a["position"]),
    ),
]
# The function of a recipe that is the event "update"; `losses` reads its result. Steps of
# optimisers are recorded by a hook of PyTorch.
UPDATE = "update"

# Functions that take long and produce no number.
PICTURES = [
    (wb.run, "plot_curve"),
    (wb.tasks, "plot_tasks"),
    (wb.language, "plot_belief"),
    (wb.run.TensorBoardSink, "write"),
]

"""Does an update compute the same: as one graph, as the reference, in bfloat16?"""

import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch

import worldblocks as wb
from benchmarks import ROOT
from benchmarks.gpu import agents
from benchmarks.gpu.agents import error, finite
from benchmarks.ours import Update

Findings = Iterator[dict[str, Any]]
UPDATES = 8  # three warm up, one is recorded, four are the graph alone
SHORT = 16  # rows of a window: eager updates take their time
DRIFT = 50
SEEN = (1, 2, 5, 10, 20, 50)  # updates whose losses are written down
# Groups of the parity table, the whole agent first. The rest (replay, Atari) is no device's work.
GROUPS = "akbcdefghij"


def exact() -> None:
    """Convolutions in float32, which PyTorch rounds to ten bits of mantissa by itself on a GPU."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def captured(device: str, quick: bool) -> Findings:
    """The graph against eager kernels, and eager kernels against themselves, which is the noise."""
    exact()
    kinds = {
        "proprio float32": functools.partial(agents.proprio, "size1m", length=SHORT),
        "images float32": functools.partial(agents.images, "size1m", length=SHORT),
        "images bfloat16": functools.partial(agents.images, "size1m", length=SHORT, bf16=True),
    }
    for name, make in kinds.items():
        one, again, graph = (make(device, quick) for _ in range(3))
        with wb.distributions.modes():
            eager, repeated = trace(one, UPDATES), trace(again, UPDATES)
            recorded = trace(graph, UPDATES, graph=True)
        yield {
            name: {
                "captured against eager": apart(recorded, eager, graph, one),
                "eager against eager": apart(repeated, eager, again, one),
            }
        }


def trace(one: Update, updates: int, *, graph: bool = False) -> dict[str, torch.Tensor]:
    """The losses of each update, by name."""
    step = functools.partial(one.recipe.update, one.agent, one.optimizer, cfg=one.cfg)
    train = wb.run.Captured(step) if graph else step
    found = [train(one.rows)[1] for _ in range(updates)]
    names = [name for name in found[0] if name.startswith("loss/")]
    return {name: torch.stack([metrics[name].float() for metrics in found]) for name in names}


def apart(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], one: Update, other: Update
) -> dict[str, Any]:
    """Largest errors of losses and of parameters."""
    loss = {name: error(ours[name], theirs[name]) for name in theirs}
    mine, reference = agents.parameters(one), agents.parameters(other)
    parameter = {name: error(mine[name], reference[name]) for name in reference}
    return {"updates": UPDATES, "losses": worst(loss), "parameters": worst(parameter)}


def worst(errors: dict[str, float]) -> dict[str, Any]:
    """The largest and whose it is."""
    name = max(errors, key=lambda name: errors[name])
    return {"error": finite(errors[name]), "of": name}


def parity(device: str, quick: bool) -> Findings:
    """The table of parity with every block on the device, group by group."""
    exact()
    sys.path.insert(0, str(ROOT / "tests"))
    from golden_folder import GOLDEN
    from parity import RECIPE, run

    for group in "ab" if quick else GROUPS:
        rows = run(GOLDEN, RECIPE, group, device=device)
        errors = [found.error for row in rows for found in (*row.values, *row.gradients)]
        bad = {f"{row.case}: {row.what}": fault(row) for row in rows if not row.ok}
        yield {
            group: {
                "rows": len(rows),
                "within tolerance": len(rows) - len(bad),
                "largest error": finite(max(errors, default=0.0)),
                **({"beyond": bad} if bad else {}),
            }
        }


def fault(row: Any) -> str:
    """Why a row is not within tolerance."""
    named = [f"{one.array} {one.error:.1e} > {one.tolerance:.0e}" for one in row.faults[:3]]
    return "; ".join([*named, row.problem[:300]] if row.problem else named)


def drift(device: str, quick: bool) -> Findings:
    """bfloat16 against float32: one update's losses and gradients, then many updates."""
    exact()
    kinds = {
        "proprio": functools.partial(agents.proprio, "size1m"),
        "images": functools.partial(agents.images, "size1m"),
    }
    for name, make in kinds.items():
        full, half = make(device, quick), make(device, quick, bf16=True)
        with wb.distributions.modes():
            yield {f"{name}, first update": first(half, full)}
            updates = 10 if quick else DRIFT
            ours, theirs = (trace(one, updates, graph=True) for one in (half, full))
        shown = [update for update in SEEN if update <= updates]
        table = {
            loss: {
                "float32": [finite(float(theirs[loss][n - 1])) for n in shown],
                "bfloat16": [finite(float(ours[loss][n - 1])) for n in shown],
            }
            for loss in theirs
        }
        yield {f"{name}, many updates": {"update": shown, **table}}


def first(half: Update, full: Update) -> dict[str, Any]:
    """Relative errors of losses; of gradients ‖difference‖ / ‖float32‖ by parameter."""
    with torch.no_grad():
        ours, theirs = agents.losses(half), agents.losses(full)
    losses = {name: finite(error(ours[name].float(), theirs[name])) for name in theirs}
    mine, reference = agents.gradients(half), agents.gradients(full)
    off = {
        name: float((mine[name] - gradient).norm() / gradient.norm())
        for name, gradient in reference.items()
        if float(gradient.norm()) > 0
    }
    ordered = sorted(off.values())
    flat, exact_flat = (torch.cat([g[n].flatten() for n in reference]) for g in (mine, reference))
    return {
        "losses": losses,
        "gradients": {
            "median": finite(ordered[len(ordered) // 2]),
            "worst": worst(off),
            "whole": finite(float((flat - exact_flat).norm() / exact_flat.norm())),
        },
    }

"""Gradients: which loss trains which module, compared with the reference."""

import math
from html import escape
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldblocks.diagnose.finding import Figure, Finding, Light, Section, judged, unknown
from worldblocks.diagnose.inputs import Inputs

# The modules that each loss of DreamerV3 trains; all other gradients are exactly 0.
WORLD = {"encoder", "rssm"}
REACHES = {
    "dyn": WORLD,
    "rep": WORLD,
    "obs": {*WORLD, "decoder"},
    "reward": {*WORLD, "reward"},
    "cont": {*WORLD, "cont"},
    "actor": {"actor"},
    "critic": {"value"},
    "replay_critic": {*WORLD, "value"},
}
FINITE = "every gradient of every loss is finite"
LEAK = "the gradient is exactly 0 at every module that a loss must not train"
MISSING = "the gradient is not 0 at every module that a loss must train"


class Table(NamedTuple):
    """Gradient norm of each loss at each module, and the norm of the module's weights."""

    modules: list[str]
    norms: dict[str, dict[str, float]]
    weights: dict[str, float]


def section(inputs: Inputs) -> Section:
    """Gradient norms of loss × module on one batch of held-out windows."""
    key, title = "gradients", "Gradients"
    question = "Which loss trains which module, and does one train a module that it must not?"
    if inputs.training is None:
        few = unknown("gradients", "fewer than 3 rows: increase --steps", FINITE)
        return Section(key, title, question, [few], [])
    table = measure(inputs)
    cells = [(loss, module) for loss in table.norms for module in table.modules]
    at = lambda cell: table.norms[cell[0]][cell[1]]  # noqa: E731
    known = [cell for cell in cells if cell[0] in REACHES]
    modules = set().union(*REACHES.values())  # nothing is known about further modules
    wanted = [cell for cell in known if cell[1] in REACHES[cell[0]]]
    nonfinite = [cell for cell in cells if not math.isfinite(at(cell))]
    leaks = [c for c in known if c not in wanted and c[1] in modules and at(c) != 0]
    missing = [cell for cell in wanted if at(cell) == 0]
    findings = [
        _finding("non-finite gradients", nonfinite, FINITE, "nonfinite", "red"),
        _finding("leaked gradients", leaks, LEAK, "leak", "red"),
        _finding("missing gradients", missing, MISSING, "missing", "amber"),
    ]
    windows, rows = inputs.training.reward.shape
    caption = (
        f"Gradient norm of each loss (with its weight) at each module, on {windows} windows of "
        f"{rows} rows. Darker is larger. A dot is an exact 0, as it must be."
    )
    figure = Figure(_drawn(table, leaks, missing), caption, wide=True)
    return Section(key, title, question, findings, [figure])


def measure(inputs: Inputs) -> Table:
    """The table; parameters, their `.grad`, and buffers such as the return scale are unchanged."""
    agent = inputs.agent
    buffers = {name: buffer.clone() for name, buffer in agent.named_buffers()}
    parameters = {
        name: [p for p in module.parameters() if p.requires_grad]
        for name, module in agent.named_children()
    }
    parameters = {name: own for name, own in parameters.items() if own}
    with torch.enable_grad():
        post, losses, _ = inputs.recipe.world_model_loss(agent, inputs.training, inputs.cfg)
        more, _ = inputs.recipe.actor_critic_loss(agent, post, inputs.training, inputs.cfg)
        losses = {**losses, **more}
        norms = {name: _norms(loss.mean(), parameters) for name, loss in losses.items()}
    with torch.no_grad():
        for name, buffer in agent.named_buffers():
            buffer.copy_(buffers[name])
        weights = {name: _norm(own) for name, own in parameters.items()}
    return Table(list(parameters), norms, weights)


def _norms(loss: Tensor, parameters: dict[str, list[nn.Parameter]]) -> dict[str, float]:
    if not loss.requires_grad:
        return dict.fromkeys(parameters, 0.0)
    flat = [p for own in parameters.values() for p in own]
    gradients = iter(torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True))
    return {
        name: _norm([g for g in (next(gradients) for _ in own) if g is not None])
        for name, own in parameters.items()
    }


def _norm(tensors: list[Tensor] | list[nn.Parameter]) -> float:
    if not tensors:
        return 0.0
    return float(torch.stack([x.detach().float().norm() for x in tensors]).norm())


def _finding(
    name: str, cells: list[tuple[str, str]], rule: str, symptom: str, light: Light
) -> Finding:
    listed = ", ".join(f"{loss} at {module}" for loss, module in cells[:6])
    more = f" and {len(cells) - 6} more" if len(cells) > 6 else ""
    return judged(name, light if cells else "green", listed + more or "none", rule, symptom)


def _drawn(table: Table, leaks: list[tuple[str, str]], missing: list[tuple[str, str]]) -> str:
    """The table in HTML, shaded by the logarithm of the norm over the whole table."""
    sizes = [x for row in table.norms.values() for x in row.values() if math.isfinite(x) and x]
    low, high = (math.log10(min(sizes)), math.log10(max(sizes))) if sizes else (0.0, 1.0)
    lines = []
    for loss, row in table.norms.items():
        cells = []
        for module, norm in row.items():
            bad = (loss, module) in leaks or not math.isfinite(norm)
            kind = "leak" if bad else "missing" if (loss, module) in missing else ""
            share = (math.log10(norm) - low) / max(high - low, 1e-9) if norm and not kind else 0
            shade = f' style="--share:{5 + 45 * share:.0f}%"' if share > 0 or norm else ""
            text = f"{norm:.2g}" if norm or kind else "·"
            cells.append(f'<td class="heat {kind}"{shade}>{text}</td>')
        lines.append(f"<tr><th>{escape(loss)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(module)}</th>" for module in table.modules)
    weights = "".join(f"<td>{table.weights[module]:.3g}</td>" for module in table.modules)
    foot = f'<tr class="foot"><th>weights</th>{weights}</tr>'
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}{foot}</table>"

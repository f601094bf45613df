"""Section 9: which loss moves which module, and which must not."""

import math
from html import escape
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldblocks.diagnose.finding import Figure, Finding, Light, Section, unknown
from worldblocks.diagnose.inputs import Look

# The modules that each loss of DreamerV3 reaches; every other gradient is exactly zero.
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
FINITE = "every gradient of every loss is a number"
LEAK = "a loss that must not reach a module has gradient exactly 0 there"
STARVED = "a loss has a gradient other than 0 wherever it must teach"


class Table(NamedTuple):
    """Gradient norms of each loss at each module; None where no gradient flows at all."""

    modules: list[str]
    norms: dict[str, dict[str, float]]
    weights: dict[str, float]


def section(look: Look) -> Section:
    """Gradient norms of loss × module on one batch of held-out windows."""
    title, question = "Gradients", "Which loss trains which module, and does any reach too far?"
    if look.short is None:
        few = unknown("gradients", "fewer than 3 rows: give more --steps", FINITE)
        return Section("gradients", title, question, [few], [])
    table = measure(look)
    cells = [(loss, module) for loss in table.norms for module in table.modules]
    known = [(loss, module) for loss, module in cells if loss in REACHES]
    at = lambda loss, module: table.norms[loss][module]  # noqa: E731
    broken = [cell for cell in cells if not math.isfinite(at(*cell))]
    leaks = [c for c in known if c[1] not in REACHES[c[0]] and _trained(c[1]) and at(*c) != 0]
    starved = [c for c in known if c[1] in REACHES[c[0]] and at(*c) == 0]
    findings = [
        _finding("gradients that are no number", broken, FINITE, "infinite", "red"),
        _finding("losses that reach too far", leaks, LEAK, "leak", "red"),
        _finding("losses that do not teach", starved, STARVED, "starved", "amber"),
    ]
    caption = (
        f"Norm of the gradient of each loss (weight included) at each module, on "
        f"{look.short.reward.shape[0]} windows of {look.short.reward.shape[1]} rows. Darker is "
        f"larger; a dot is exactly 0, as it must be."
    )
    figure = Figure(_drawn(table, leaks, starved), caption, wide=True)
    return Section("gradients", title, question, findings, [figure])


def measure(look: Look) -> Table:
    """The table; parameters, their `.grad` and buffers such as the return scale stay."""
    agent = look.agent
    buffers = {name: buffer.clone() for name, buffer in agent.named_buffers()}
    parameters = {
        name: [p for p in module.parameters() if p.requires_grad]
        for name, module in agent.named_children()
    }
    parameters = {name: own for name, own in parameters.items() if own}
    with torch.enable_grad():
        post, losses, _ = look.recipe.world_model_loss(agent, look.short, look.cfg)
        more, _ = look.recipe.actor_critic_loss(agent, post, look.short, look.cfg)
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


def _trained(module: str) -> bool:
    """Whether the reference says something of a module."""
    return any(module in reached for reached in REACHES.values())


def _finding(
    name: str, cells: list[tuple[str, str]], rule: str, symptom: str, light: Light
) -> Finding:
    if not cells:
        return Finding(name, "green", "none", rule)
    named = ", ".join(f"{loss} at {module}" for loss, module in cells[:6])
    more = f" and {len(cells) - 6} more" if len(cells) > 6 else ""
    return Finding(name, light, named + more, rule, symptom)


def _drawn(table: Table, leaks: list[tuple[str, str]], starved: list[tuple[str, str]]) -> str:
    """The table in HTML, shaded by the logarithm of the norm within the whole table."""
    sizes = [x for row in table.norms.values() for x in row.values() if math.isfinite(x) and x]
    low, high = (math.log10(min(sizes)), math.log10(max(sizes))) if sizes else (0.0, 1.0)
    lines = []
    for loss, row in table.norms.items():
        cells = []
        for module, norm in row.items():
            bad = (loss, module) in leaks or not math.isfinite(norm)
            kind = "leak" if bad else "starved" if (loss, module) in starved else ""
            share = (math.log10(norm) - low) / max(high - low, 1e-9) if norm and not kind else 0
            shade = f' style="--share:{5 + 45 * share:.0f}%"' if share > 0 or norm else ""
            word = f"{norm:.2g}" if norm or kind else "·"
            cells.append(f'<td class="heat {kind}"{shade}>{word}</td>')
        lines.append(f"<tr><th>{escape(loss)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(module)}</th>" for module in table.modules)
    weights = "".join(f"<td>{table.weights[module]:.3g}</td>" for module in table.modules)
    foot = f'<tr class="foot"><th>weights</th>{weights}</tr>'
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}{foot}</table>"

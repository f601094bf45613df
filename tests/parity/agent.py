"""Group k: the whole agent of a recipe: losses, gradients and three updates."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.arrays import Arrays
from parity.recipe import SCOPES, SLOW, Setup, dream, set_up
from parity.record import GRADIENTS, Check, Excepted, Record
from worldblocks.decoders import target
from worldblocks.distributions import OneHot, modes
from worldblocks.interop import from_jax, jax_names
from worldblocks.returns import lambda_return

TOLERANCE = GRADIENTS  # for everything of the whole agent
# The official name of each loss and its weight in the total.
NAMES = {"dyn": "dyn", "rep": "rep", "reward": "rew", "cont": "con"}
NAMES |= {"actor": "policy", "critic": "value", "replay_critic": "repval"}
WEIGHTS = {"rep": 0.1, "replay_critic": 0.3}
ROUNDED = (
    "float32 rounding: of the parameter, or of a gradient far smaller than its tensor's, which "
    "LaProp divides by its own size; the parameters themselves agree"
)


def checks(file: Arrays, recipe: Path) -> Iterator[Check]:
    """Losses and metrics, gradients, gradient norms by loss and module, three updates."""
    parts: dict[str, tuple[str, Callable[[Record, Arrays, Setup], None]]] = {
        "losses": ("whole agent: states, losses, metrics", _losses),
        "gradients": ("whole agent: gradients of the total", _gradients),
        "gradnorms": ("whole agent: gradient norm of each loss in each module", _norms),
        "updates": ("whole agent: three updates, latents, return scale, metrics", _updates),
        "deltas": ("whole agent: what three updates have changed", _deltas),
    }

    def run(record: Record, part: Callable[[Record, Arrays, Setup], None]) -> None:
        setup = set_up(file, recipe)
        with modes():
            part(record, file, setup)

    for name, (what, part) in parts.items():
        yield Check("k", f"{file.name} {name}", what, lambda r, part=part: run(r, part))


def evaluate(setup: Setup, agent: Any) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """Posterior states, weighted losses by our names, unweighted ones by the official names."""
    post, world, *_ = setup.recipe.world_model_loss(agent, setup.batch, setup.cfg)
    behaviour = setup.recipe.actor_critic_loss(agent, post, setup.batch, setup.cfg)
    behaviour = behaviour[0] if isinstance(behaviour, tuple) else behaviour
    weighted = {**world, **behaviour}
    shape = setup.batch.reward.shape
    official = {}
    for ours, name in NAMES.items():
        loss = weighted[ours] / WEIGHTS.get(ours, 1.0)
        official[name] = loss.mean(1).reshape(shape) if ours in ("actor", "critic") else loss
    outputs = agent.decoder(post)
    for key, output in outputs.items():
        official[key] = output.nll(target(output, setup.batch.obs[key]))
    return post, weighted, official


def _losses(record: Record, file: Arrays, setup: Setup) -> None:
    agent = setup.agent
    agent.return_scale.eval()  # recorded without an update of the return scale
    post, weighted, official = evaluate(setup, agent)
    value = _valuer(record)
    value("tokens", agent.encoder(setup.batch.obs), file["tokens"])
    for name, ours in {"deter": post.deter, "logit": post.parameters, "stoch": post.stoch}.items():
        value(f"repfeat.{name}", ours, file[f"repfeat.{name}"])
    for name, ours in official.items():
        value(f"losses.{name}", ours, file[f"losses.{name}"])
    reconstruction = sum(file[f"losses.{key}"] for key in setup.observation)
    value(f"losses.{' + '.join(setup.observation)}", weighted["obs"], reconstruction)
    total = sum(loss.mean() for loss in weighted.values())
    value("total", total, file["total"])
    _compare_metrics(record, file, "metrics", metrics(setup, agent, post, official))


def _gradients(record: Record, file: Arrays, setup: Setup) -> None:
    setup.agent.return_scale.eval()
    _, weighted, _ = evaluate(setup, setup.agent)
    torch.stack([loss.mean() for loss in weighted.values()]).sum().backward()
    for scope, module in SCOPES.items():
        block = setup.agent.get_submodule(module)
        record.block("grads", block, file.at("grads"), scope, tolerance=TOLERANCE)


def _norms(record: Record, file: Arrays, setup: Setup) -> None:
    setup.agent.return_scale.eval()
    _, _, official = evaluate(setup, setup.agent)
    modules = {s: list(setup.agent.get_submodule(m).parameters()) for s, m in SCOPES.items()}
    every = [parameter for parameters in modules.values() for parameter in parameters]
    for name, loss in official.items():
        gradients = torch.autograd.grad(loss.mean(), every, retain_graph=True, allow_unused=True)
        of = dict(zip(every, gradients, strict=True))
        for scope, parameters in modules.items():
            array = f"gradnorms.{name}.{scope}"
            norm = _norm([of[p] for p in parameters if of[p] is not None])  # type: ignore[misc]
            record.gradient(array, norm, file[array], TOLERANCE)


def _updates(record: Record, file: Arrays, setup: Setup) -> None:
    agent, value = setup.agent, _valuer(record)
    steps = [part for part in file.parts() if part.startswith("step")]
    for number, step in enumerate(steps, start=1):
        arrays = file.at(step)
        before = copy.deepcopy(agent)
        post, weighted, official = evaluate(setup, before)
        expected = metrics(setup, before, post, official)
        torch.stack([loss.mean() for loss in weighted.values()]).sum().backward()
        old = [p.detach().clone() for p in agent.parameters() if p.requires_grad]
        post, _ = setup.recipe.update(agent, setup.optimizer, setup.batch, setup.cfg)
        expected |= _optimizer_metrics(before, agent, old, weighted, number)
        _compare_metrics(record, file, f"{step}.metrics", expected)
        for name, ours in {"dyn/deter": post.deter, "dyn/stoch": post.stoch}.items():
            value(f"{step}.replay.{name}", ours, arrays[f"replay.{name}"])
        for name, ours in zip(("lo", "hi"), agent.return_scale.range, strict=True):
            array = f"retnorm.retnorm/{name}/value"
            value(f"{step}.{array}", ours, arrays[array])
    for scope, module in (*SCOPES.items(), SLOW):
        block, final = agent.get_submodule(module), file.at("final_params")
        record.block("final_params", block, final, scope, lambda p: p, tolerance=TOLERANCE)
    count = "slowval_count/value"
    value(f"final_params.{count}", agent.slow_value.count, file[f"final_params.{count}"])


def _deltas(record: Record, file: Arrays, setup: Setup) -> None:
    """The change of every parameter over the updates: a difference of rounded numbers."""
    agent, start = setup.agent, copy.deepcopy(setup.agent)
    steps = [part for part in file.parts() if part.startswith("step")]
    for _ in steps:
        setup.recipe.update(agent, setup.optimizer, setup.batch, setup.cfg)
    beyond, path = 0, f"{steps[-1]}.deltas"
    for scope, module in (*SCOPES.items(), SLOW):
        block, before = agent.get_submodule(module), start.get_submodule(module)
        names = jax_names(block)
        for name, reference in from_jax(block, file.at(path), scope=scope).items():
            new = block.get_parameter(name).detach().cpu()
            ours = new - before.get_parameter(name).detach().cpu()
            excused = excuse(ours, reference, new)
            beyond += int(excused.sum())
            array = f"{path}.{scope}/{names[name]}"
            record.value(array, torch.where(excused, reference, ours), reference, TOLERANCE)
    if beyond:
        record.excepted = Excepted(beyond, ROUNDED)


def excuse(ours: Tensor, reference: Tensor, parameter: Tensor) -> Tensor:
    """Elements beyond the tolerance whose error is explained by float32 rounding.

    There are two causes. A parameter was rounded the other way: up to two units in its last place.
    Or the gradient of the element is much smaller than those of its tensor, and its rounding error
    grows when LaProp divides by its root mean square. The latter may be one element per array or
    one in 250, and at most a hundredth of the largest change.
    """
    error, largest = (ours - reference).abs(), reference.abs().max()
    beyond = error > TOLERANCE * largest
    place = torch.from_numpy(np.spacing(parameter.abs().numpy()))
    rounded = beyond & (error <= 2 * place)
    small = beyond & ~rounded & (error <= 0.01 * largest)
    few = small.sum() <= max(1, reference.numel() // 250)
    return rounded | (small & few)


def _valuer(record: Record) -> Callable[[str, Any, Any], None]:
    return lambda array, ours, reference: record.value(array, ours, reference, TOLERANCE)


def _compare_metrics(record: Record, file: Arrays, path: str, ours: dict[str, Any]) -> None:
    arrays = file.at(path)
    for name in arrays:
        record.value(f"{path}.{name}", ours[name], arrays[name], TOLERANCE)


@torch.no_grad()
def metrics(setup: Setup, agent: Any, post: Any, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's metrics of an update; the return scale is not updated."""
    cfg = setup.cfg
    states, _ = dream(agent, post, cfg.horizon)
    feature = states.feature()
    reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value, slow = agent.value(feature).mean, agent.slow_value(feature).mean
    returns = lambda_return(reward[:, 1:], cont[:, 1:], value[:, 1:], cfg.lam)
    scale = copy.deepcopy(agent.return_scale).eval()
    low, spread = scale.limits()[0], scale(returns)
    normed, advantage = (returns - low) / spread, (returns - value[:, :-1]) / spread
    found = {
        "adv": advantage.mean(),
        "adv_std": advantage.std(correction=0),
        "adv_mag": advantage.abs().mean(),
        "rew": reward.mean(),
        "con": cont.mean(),
        "ret": normed.mean(),
        "ret_min": normed.min(),
        "ret_max": normed.max(),
        "ret_rate": (normed.abs() >= 1).float().mean(),
        "val": value.mean(),
        "slowval": slow.mean(),
        "tar": returns.mean(),
        "weight": cont.cumprod(1).mean(),
    }
    for key, part in agent.actor(feature[:, :-1]).parts.items():
        found[f"ent/{key}"] = part.entropy().mean()
        if isinstance(part, OneHot):
            most = torch.tensor(float(part.logits.shape[-1])).log()
            found[f"rand/{key}"] = found[f"ent/{key}"] / most
    found["dyn_ent"] = agent.rssm.prior(post).entropy().mean()
    found["rep_ent"] = agent.rssm.posterior(post).entropy().mean()
    return found | {f"loss/{name}": loss.mean() for name, loss in official.items()}


@torch.no_grad()
def _optimizer_metrics(
    before: Any, after: Any, old: list[Tensor], weighted: dict[str, Tensor], number: int
) -> dict[str, Any]:
    """The reference's `opt/` metrics; `before` holds the gradients of the update."""
    gradients = [p.grad for p in before.parameters() if p.grad is not None]
    new = [p for p in after.parameters() if p.requires_grad]
    size = sum(p.numel() for p in new)
    moved = [a - b for a, b in zip(new, old, strict=True)]
    norm = _norm(gradients)
    return {
        "opt/loss": sum(loss.mean() for loss in weighted.values()),
        "opt/updates": number,
        "opt/grad_norm": norm,
        "opt/grad_rms": norm / size**0.5,
        "opt/update_rms": _norm(moved) / size**0.5,
        "opt/param_rms": _norm(new) / size**0.5,
        "opt/param_count": size,
    }


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([x.square().sum() for x in tensors] or [torch.zeros(())]).sum().sqrt()

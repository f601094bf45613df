"""Groups g and h: the optimiser, running scales, slow copies."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from parity.arrays import Arrays, count
from parity.record import Check, Record
from worldblocks.ema import SlowCopy
from worldblocks.interop import load_jax
from worldblocks.layers import MLP, Linear
from worldblocks.normalize import PercentileScale, RunningMoments
from worldblocks.optim import LaProp


def offered(file: Arrays, case: str) -> bool:
    """Whether a variant uses only options that our optimiser has."""
    config = file.at(f"{case}.config")
    nesterov = "nesterov" in config and bool(config["nesterov"])
    return str(config["schedule"]) == "const" and bool(config["momentum"]) and not nesterov


def optimizer_checks(file: Arrays) -> Iterator[Check]:
    """One row for each variant whose options are offered."""
    for case in file.parts():
        if f"{case}.config.lr" in file and offered(file, case):
            what = "LaProp, clipping, warm-up: each stage, parameters; gradients"
            yield Check("g", f"{file.name} {case}", what, lambda r, c=case: _optimize(r, file, c))


def not_offered(file: Arrays) -> list[str]:
    """The recorded variants that need an option our optimiser does not have."""
    return [c for c in file.parts() if f"{c}.config.lr" in file and not offered(file, c)]


def _optimize(record: Record, file: Arrays, case: str) -> None:
    arrays = file.at(case)
    names = list(arrays.at("params"))
    start = {name: arrays[f"params.{name}"][0] for name in names}
    params = {name: nn.Parameter(torch.tensor(array)) for name, array in start.items()}
    optimizer = _optimizer(arrays, params)
    stages: dict[str, list[Tensor]] = {}
    for t in range(len(arrays["loss"])):
        for name, parameter in params.items():
            parameter.grad = arrays.tensor(f"grads.{name}")[t]
            stages.setdefault(f"params.{name}", []).append(parameter.detach().clone())
        optimizer.step()
        for name, parameter in params.items():
            for stage, x in _stages(optimizer, parameter).items():
                stages.setdefault(f"{stage}.{name}", []).append(x.clone())
    for name, parameter in params.items():
        stages[f"params.{name}"].append(parameter.detach())
    for name, rows in stages.items():
        record.value(f"{case}.{name}", torch.stack(rows), arrays[name])
    _regression(record, file, case)


def _optimizer(arrays: Arrays, params: dict[str, nn.Parameter]) -> LaProp:
    config = {name: arrays.number(f"config.{name}") for name in ("lr", "eps", "agc", "wd")}
    betas = (arrays.number("config.beta1"), arrays.number("config.beta2"))
    groups = []
    for kernels in (True, False):  # only kernels decay
        group = [p for name, p in params.items() if name.endswith("/kernel") == kernels]
        groups.append({"params": group, "weight_decay": config["wd"] if kernels else 0.0})
    warmup = int(arrays.number("config.warmup"))
    return LaProp(groups, config["lr"], betas, config["eps"], agc=config["agc"], warmup=warmup)


def _stages(optimizer: LaProp, parameter: nn.Parameter) -> dict[str, Tensor]:
    """The stages of a parameter's update; clipping has changed the gradient in place."""
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    (beta1, beta2), step = group["betas"], state["step"]
    root = (state["square"] / (1 - beta2**step)).sqrt() + group["eps"]
    assert parameter.grad is not None
    return {
        "after_agc": parameter.grad,
        "after_rms": parameter.grad / root,
        "after_momentum": state["momentum"] / (1 - beta1**step),
    }


def _regression(record: Record, file: Arrays, case: str) -> None:
    """Loss and gradients of our layers at the recorded parameters."""
    arrays = file.at(case)
    x, y, params = file.tensor("X"), file.tensor("Y"), arrays.at("params")
    units, layers = params["mlp/linear0/bias"].shape[-1], count(params, "mlp/linear{}/")
    mlp, head = MLP(x.shape[-1], units=units, layers=layers), Linear(units, y.shape[-1])
    blocks = {"mlp": mlp, "head/logit": head}
    losses, gradients = [], {}
    for t in range(len(arrays["loss"])):
        for scope, block in blocks.items():
            load_jax(block, {name: params[name][t] for name in params}, scope=scope)
            block.zero_grad()
        loss = (head(mlp(x)) - y).square().sum(-1).mean()
        loss.backward()
        losses.append(loss.item())
        for scope, block in blocks.items():
            theirs = {name: arrays[f"grads.{name}"][t] for name in params}
            own = Record()
            own.block(f"{case}.grads", block, theirs, scope)
            for error in own.gradients:  # keep the worst step
                gradients[error.array] = max(
                    error, gradients.get(error.array, error), key=lambda one: one.error
                )
    record.value(f"{case}.loss", losses, arrays["loss"])
    record.gradients += gradients.values()


Read = Callable[[], tuple[Tensor, Tensor]]


def normalize_checks(file: Arrays) -> Iterator[Check]:
    """One row for each normaliser that the library has."""

    def percentiles(record: Record, case: str, debias: bool) -> None:
        scale = PercentileScale(debias=debias)
        state = {"lo": lambda: scale.range[0], "hi": lambda: scale.range[1]}
        state["corr"] = lambda: scale.weight
        _normalize(
            record, file, case, scale, lambda: (scale.limits()[0], scale.eval()(_NOTHING)), state
        )

    def moments(record: Record, case: str) -> None:
        scale = RunningMoments()
        state = {"mean": lambda: scale.moments[0], "sqrs": lambda: scale.moments[1]}
        state["corr"] = lambda: scale.weight
        _normalize(record, file, case, scale, lambda: scale.eval()(_NOTHING), state)

    kinds: dict[str, tuple[str, Callable[[Record, str], None]]] = {
        "perc": ("percentile scale", lambda r, case: percentiles(r, case, False)),
        "perc_debias": ("percentile scale, debiased", lambda r, case: percentiles(r, case, True)),
        "meanstd": ("running moments", moments),
    }
    for case in file.parts():
        if case in kinds:
            what, run = kinds[case]
            yield Check("h", f"{file.name} {case}", what, lambda r, c=case, run=run: run(r, c))
    yield Check("h", f"{file.name} percentiles", "percentiles", lambda r: _percentiles(r, file))


_NOTHING = torch.zeros(0)  # in eval mode a scale ignores its argument


def _normalize(
    record: Record,
    file: Arrays,
    case: str,
    scale: nn.Module,
    read: Read,
    state: dict[str, Callable[[], Tensor]],
) -> None:
    arrays = file.at(case)
    for name, ours in zip(("offset_before", "scale_before"), read(), strict=True):
        record.value(f"{case}.{name}", ours, arrays[name])
    rows: dict[str, list[Any]] = {"offset": [], "scale": []}
    rows |= {name: [] for name in arrays if name.startswith("state.")}
    for x in file.tensor("x"):
        scale.train()(x)
        for name, ours in zip(("offset", "scale"), read(), strict=True):
            rows[name].append(ours.item())
        for name in rows:
            if name.startswith("state."):
                rows[name].append(state[name.split("/")[-2]]().item())
    for name, ours in rows.items():
        record.value(f"{case}.{name}", ours, arrays[name])


def _percentiles(record: Record, file: Arrays) -> None:
    names = [name for name in file if re.fullmatch(r"percentile_\d+", name)]
    at = sorted(int(name.split("_")[1]) for name in names)
    scale = PercentileScale(rate=1.0, low=at[0], high=at[-1])
    rows = []
    for x in file.tensor("x"):
        scale(x)
        rows.append(scale.limits().clone())
    for percent, ours in zip((at[0], at[-1]), torch.stack(rows, 1), strict=True):
        record.value(f"percentile_{percent}", ours, file[f"percentile_{percent}"])


def slow_checks(file: Arrays) -> Iterator[Check]:
    """One row for each rate and interval."""

    def run(record: Record, case: str) -> None:
        arrays = file.at(case)
        sources = arrays.tensor("source")
        module = nn.ParameterList([nn.Parameter(sources[0].clone())])
        slow = SlowCopy(module, arrays.number("rate"), int(arrays.number("every")))
        copies = [slow.copy[0].clone()]  # type: ignore[index]
        for source in sources[1:]:
            module[0].data = source.clone()
            slow.update(module)
            copies.append(slow.copy[0].clone())  # type: ignore[index]
        record.value(f"{case}.slow", torch.stack(copies), arrays["slow"])

    for case in file.parts():
        yield Check("h", f"{file.name} {case}", "slow copy", lambda r, c=case: run(r, c))

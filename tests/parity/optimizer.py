"""Group g: clipping, LaProp and warm-up, twenty steps on a regression."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from parity.arrays import Arrays
from parity.record import Check, Record
from parity.sizes import count
from worldblocks.interop import load_jax
from worldblocks.layers import MLP, Linear
from worldblocks.optim import LaProp


def offered(file: Arrays, case: str) -> bool:
    """Whether a variant only uses options that our optimiser has."""
    config = file.at(f"{case}.config")
    nesterov = "nesterov" in config and bool(config["nesterov"])
    return str(config["schedule"]) == "const" and bool(config["momentum"]) and not nesterov


def checks(file: Arrays) -> Iterator[Check]:
    """One row for each variant whose options are offered."""
    for case in file.parts():
        if f"{case}.config.lr" in file and offered(file, case):
            what = "LaProp, clipping, warm-up: each stage, parameters; gradients"
            yield Check("g", f"{file.name} {case}", what, lambda r, c=case: _run(r, file, c))


def not_offered(file: Arrays) -> list[str]:
    """The recorded variants that need an option our optimiser does not have."""
    return [c for c in file.parts() if f"{c}.config.lr" in file and not offered(file, c)]


def _run(record: Record, file: Arrays, case: str) -> None:
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
    """What the update of a parameter was made of; clipping has changed the gradient in place."""
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
    """Loss and gradients at the recorded parameters, from our layers."""
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
            for error in own.gradients:  # of the steps, the worst
                gradients[error.array] = max(error, gradients.get(error.array, error), key=_error)
    record.value(f"{case}.loss", losses, arrays["loss"])
    record.gradients += gradients.values()


def _error(error: object) -> float:
    return error.error  # type: ignore[attr-defined]

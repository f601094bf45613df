"""Group j: the losses of actor and critic, assembled from blocks as in the reference."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from parity.arrays import Arrays
from parity.functions import returns
from parity.record import Check, Excepted, Record
from worldblocks.distributions import BoundedNormal, OneHot, Output, TwoHot
from worldblocks.normalize import PercentileScale, RunningMoments
from worldblocks.returns import lambda_return
from worldblocks.transforms import symexp_bins

CENTRED = (
    "the mean of targets that were centred by their own mean is zero: what is recorded is its "
    "rounding error; both are compared with zero"
)


def imagined_checks(file: Arrays) -> Iterator[Check]:
    """Two calls that share the state of the normalisers, for each variant."""
    what = "actor and critic loss in imagination: losses, metrics; gradients"
    yield Check("j", f"{file.name} bins", "two-hot bins", lambda r: _bins(r, file))
    for case in file.parts():
        if case != "bins":
            yield Check("j", f"{file.name} {case}", what, lambda r, c=case: _imagined(r, file, c))


def replayed_checks(file: Arrays) -> Iterator[Check]:
    """The critic's loss on replayed rows, for each variant."""
    what = "critic loss on replayed rows; gradients"
    yield Check("j", f"{file.name} bins", "two-hot bins", lambda r: _bins(r, file))
    for case in file.parts():
        if case != "bins":
            yield Check("j", f"{file.name} {case}", what, lambda r, c=case: _replayed(r, file, c))


def _bins(record: Record, file: Arrays) -> None:
    record.value("bins", symexp_bins(len(file["bins"])), file["bins"])


class Scales(NamedTuple):
    """The normalisers of returns, values and advantages; the last two are off by default."""

    returns: PercentileScale
    values: RunningMoments | None
    advantages: RunningMoments | None

    @classmethod
    def start(cls, arrays: Arrays) -> "Scales":
        """Normalisers with a recorded state."""
        scale, rest = PercentileScale(), []
        scale.range.copy_(torch.stack([arrays.tensor(f"retnorm/{x}/value") for x in ("lo", "hi")]))
        for name in ("valnorm", "advnorm"):
            moments = None
            if f"{name}/corr/value" in arrays:
                moments = RunningMoments()
                moments.weight.copy_(arrays.tensor(f"{name}/corr/value"))
                parts = [arrays.tensor(f"{name}/{x}/value") for x in ("mean", "sqrs")]
                moments.moments.copy_(torch.stack(parts))
            rest.append(moments)
        return cls(scale, *rest)

    def state(self) -> dict[str, Tensor]:
        """The state by the names of the record."""
        state = {f"retnorm/{x}/value": self.returns.range[i] for i, x in enumerate(("lo", "hi"))}
        for name, moments in {"valnorm": self.values, "advnorm": self.advantages}.items():
            if moments is not None:
                mean, square = moments.moments
                state |= {f"{name}/mean/value": mean, f"{name}/sqrs/value": square}
                state[f"{name}/corr/value"] = moments.weight
        return state


def _stats(moments: RunningMoments | None, x: Tensor | None) -> tuple[Tensor, Tensor]:
    """Offset and scale, after an update with `x` if it is given."""
    if moments is None:
        return torch.tensor(0.0), torch.tensor(1.0)
    return moments.eval()(torch.zeros(0)) if x is None else moments.train()(x)


def _imagined(record: Record, file: Arrays, case: str) -> None:
    arrays = file.at(case)
    scales = Scales.start(arrays.at("norm_state_before"))
    for call in (part for part in arrays.parts() if part.startswith("call")):
        _call(record, arrays, f"{case}.{call}", call, scales)


def _policies(inputs: Arrays) -> tuple[dict[str, Output], dict[str, Tensor]]:
    """The policy of each action key, and the raw numbers it was made from."""
    policies, raw = {}, {}
    for key in inputs.at("act"):
        names = [f"policy.{key}.mean", f"policy.{key}.std"]
        names = names if names[0] in inputs else [f"policy.{key}"]
        tensors = [inputs.tensor(name).requires_grad_() for name in names]
        raw.update(zip(names, tensors, strict=True))
        if len(names) == 2:
            event = tensors[0].ndim - 2
            policies[key] = BoundedNormal(tensors[0], tensors[1], low=0.1, high=1.0, event=event)
        else:
            policies[key] = OneHot(tensors[0], event=tensors[0].ndim - 3)
    return policies, raw


class Dream(NamedTuple):
    """The inputs of the losses in imagination; the gradient goes through the value's logits."""

    value: TwoHot
    slow: TwoHot
    val: Tensor
    slowval: Tensor
    boot: Tensor
    weight: Tensor
    ret: Tensor


def _dream(inputs: Arrays, config: Arrays, scales: Scales, logits: Tensor) -> Dream:
    reward, cont = inputs.tensor("rew"), inputs.tensor("con")
    bins = symexp_bins(logits.shape[-1])
    value, slow = TwoHot(logits, bins), TwoHot(inputs.tensor("slow_logits"), bins)
    offset, scale = _stats(scales.values, None)
    val, slowval = value.mean.detach() * scale + offset, slow.mean * scale + offset
    boot = slowval if bool(config["slowtar"]) else val
    disc = 1.0 if bool(config["contdisc"]) else 1 - 1 / config.number("horizon")
    live, lam = cont * disc, config.number("lam")
    weight = live.cumprod(1) / disc
    ret = lambda_return(reward[:, 1:], live[:, 1:], boot[:, 1:], lam)
    return Dream(value, slow, val, slowval, boot, weight, ret)


def _call(record: Record, variant: Arrays, path: str, call: str, scales: Scales) -> None:
    arrays, config = variant.at(call), variant.at("config")
    inputs = arrays.at("inputs")
    logits = inputs.tensor("value_logits").requires_grad_()
    dream = _dream(inputs, config, scales, logits)
    policies, raw = _policies(inputs)
    spread = scales.returns(dream.ret)
    low = scales.returns.limits()[0]
    advantage = (dream.ret - dream.boot[:, :-1]) / spread
    a_offset, a_scale = _stats(scales.advantages, advantage)
    v_offset, v_scale = _stats(scales.values, dream.ret)
    target = (dream.ret - v_offset) / v_scale

    log_prob = sum(_log_prob(policies[k], inputs.tensor(f"act.{k}")) for k in policies)
    entropy = {key: policy.entropy()[:, :-1] for key, policy in policies.items()}  # type: ignore[attr-defined]
    bonus = config.number("actent") * sum(entropy.values())
    gain = log_prob[:, :-1] * (advantage - a_offset) / a_scale + bonus  # type: ignore[index]
    actor, value = -dream.weight[:, :-1] * gain, dream.value[:, :-1]
    again = config.number("slowreg") * value.nll(dream.slow.mean[:, :-1])
    critic = dream.weight[:, :-1] * (value.nll(target) + again)

    total = actor.mean() + critic.mean()
    stats = {"rn": (low, spread), "vn": (v_offset, v_scale), "an": (a_offset, a_scale)}
    _compare_state(record, arrays, path, dream, scales, stats)
    record.value(f"{path}.total", total, arrays["total"])
    record.values_of(arrays.at("losses"), f"{path}.losses", policy=actor, value=critic)
    normed = (dream.ret - low) / spread
    _compare_metrics(record, arrays, path, _metrics(inputs, dream, advantage, normed))
    _compare_target(record, arrays, path, target, scales)
    for key, policy in policies.items():
        _compare_entropy(record, arrays, path, key, policy, entropy[key])
    total.backward()
    for name, tensor in {**raw, "value_logits": logits}.items():
        record.gradient(f"{path}.grads.{name}", tensor.grad, arrays[f"grads.{name}"])


def _compare_state(
    record: Record, arrays: Arrays, path: str, dream: Dream, scales: Scales, stats: dict
) -> None:
    value, slow = dream.value.mean, dream.slow.mean
    record.values_of(arrays, path, val=value, slowval=slow, weight=dream.weight)
    record.value(f"{path}.outs.ret", dream.ret, arrays["outs.ret"])
    for name, pair in stats.items():
        for i, ours in enumerate(pair):
            record.value(f"{path}.stats.{name}.{i}", ours, arrays[f"stats.{name}.{i}"])
    for name, ours in scales.state().items():
        name = f"norm_state_after.{name}"
        record.value(f"{path}.{name}", ours, arrays[name])


def _metrics(inputs: Arrays, dream: Dream, advantage: Tensor, normed: Tensor) -> dict[str, Tensor]:
    return {
        "adv": advantage.mean(),
        "adv_std": advantage.std(correction=0),
        "adv_mag": advantage.abs().mean(),
        "rew": inputs.tensor("rew").mean(),
        "con": inputs.tensor("con").mean(),
        "ret": normed.mean(),
        "val": dream.val.mean(),
        "weight": dream.weight.mean(),
        "slowval": dream.slowval.mean(),
        "ret_min": normed.min(),
        "ret_max": normed.max(),
        "ret_rate": (normed.abs() >= 1).float().mean(),
    }


def _compare_metrics(record: Record, arrays: Arrays, path: str, ours: dict[str, Tensor]) -> None:
    for name, value in ours.items():
        record.value(f"{path}.metrics.{name}", value, arrays[f"metrics.{name}"])


def _compare_target(
    record: Record, arrays: Arrays, path: str, target: Tensor, scales: Scales
) -> None:
    """The mean target. It is zero if targets are centred by their mean: compared absolutely."""
    ours, theirs = target.mean(), arrays.number("metrics.tar")
    if scales.values is None:
        record.value(f"{path}.metrics.tar", ours, theirs)
        return
    record.value(f"{path}.metrics.tar", [ours.item(), theirs], [0.0, 0.0])
    record.excepted = Excepted(1, CENTRED)


def _compare_entropy(
    record: Record, arrays: Arrays, path: str, key: str, policy: Output, entropy: Tensor
) -> None:
    found = {f"ent/{key}": entropy.mean()}
    if isinstance(policy, OneHot):  # 0 is deterministic, 1 is uniform
        found[f"rand/{key}"] = entropy.mean() / math.log(policy.logits.shape[-1])
    _compare_metrics(record, arrays, path, found)


def _log_prob(policy: Output, action: Tensor) -> Tensor:
    if isinstance(policy, OneHot):
        classes = policy.logits.shape[-1]
        action = torch.nn.functional.one_hot(action.long(), classes).float()
    return policy.log_prob(action)  # type: ignore[attr-defined]


def _replayed(record: Record, file: Arrays, case: str) -> None:
    arrays = file.at(case)
    inputs, config = arrays.at("inputs"), arrays.at("config")
    bins = symexp_bins(inputs["value_logits"].shape[-1])
    logits = inputs.tensor("value_logits").requires_grad_()
    value, slow = TwoHot(logits, bins), TwoHot(inputs.tensor("slow_logits"), bins)
    ret = returns(inputs, 1 - 1 / config.number("horizon"), config.number("lam"))
    weight = (1 - inputs.tensor("last").float())[:, :-1]
    again = config.number("slowreg") * value[:, :-1].nll(slow.mean[:, :-1])
    loss = weight * (value[:, :-1].nll(ret) + again)
    record.values_of(arrays, case, val=value.mean, slowval=slow.mean)
    record.value(f"{case}.outs.ret", ret, arrays["outs.ret"])
    record.value(f"{case}.losses.repval", loss, arrays["losses.repval"])
    loss.mean().backward()
    record.gradient(f"{case}.grad_value_logits", logits.grad, arrays["grad_value_logits"])

"""Group i: policy distributions and complete heads."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from parity.arrays import Arrays, count
from parity.record import Check, Record
from worldblocks.distributions import Bernoulli, BoundedNormal, OneHot, Output
from worldblocks.heads import BinaryHead, TwoHotHead
from worldblocks.interop import load_jax
from worldblocks.layers import Linear
from worldblocks.losses import gaussian_kl

LOW, HIGH, UNIMIX = 0.1, 1.0, 0.01  # of the reference's heads
ENTROPY = 0.3  # weight in the loss whose gradients are recorded


def checks(file: Arrays) -> Iterator[Check]:
    """One row for each distribution and head."""
    for case in file.parts():
        if case.startswith("mlphead"):
            what, run = "head: prediction, loss", _head
        elif case == "normal_kl":
            what, run = "KL of normals", _normal_kl
        elif case == "binary":
            what, run = "binary: probability, loss of soft targets", _binary
        elif f"{case}.params.head/mean/kernel" in file:
            what, run = "bounded normal: log-probability, entropy; gradients", _normal
        elif f"{case}.params.head/logits/kernel" in file:
            what, run = "categorical: log-probability, entropy; gradients", _categorical
        elif case == "init_std":
            what, run = "bounded normal: initial std", _init_std
        else:
            continue
        yield Check("i", f"{file.name} {case}", what, lambda r, c=case, run=run: run(r, file, c))


def _linears(file: Arrays, case: str) -> tuple[dict[str, Linear], list[Tensor]]:
    """The last layers of a head, and their outputs for the recorded `x`."""
    params = file.at(f"{case}.params")
    layers = {}
    for name in params:
        if name.endswith("/kernel"):
            scope = name.removesuffix("/kernel")
            layers[scope] = Linear(len(params[name]), params[f"{scope}/bias"].size)
            load_jax(layers[scope], params, scope=scope)
    x = file.tensor("x")
    return layers, [layer(x) for layer in layers.values()]


def _gradients(
    record: Record, file: Arrays, case: str, layers: dict[str, Linear], output: Output, action: Any
) -> None:
    (output.log_prob(action).sum() + ENTROPY * output.entropy().sum()).backward()  # type: ignore[attr-defined]
    for scope, layer in layers.items():
        record.block(f"{case}.grads", layer, file.at(f"{case}.grads"), scope)


def _normal(record: Record, file: Arrays, case: str) -> None:
    arrays, action = file.at(case), file.tensor(f"{case}.action")
    layers, raw = _linears(file, case)
    each = BoundedNormal(raw[0], raw[1], low=LOW, high=HIGH)
    output = BoundedNormal(raw[0], raw[1], low=LOW, high=HIGH, event=action.ndim - 1)
    extremes = torch.full_like(raw[0], 200.0)  # σ saturates at its bounds
    narrow, wide = (BoundedNormal(raw[0], x, low=LOW, high=HIGH) for x in (-extremes, extremes))
    record.values_of(
        arrays,
        case,
        mean=output.mean,
        stddev=output.std,
        pred=output.mode,
        logp=output.log_prob(action),
        logp_perdim=each.log_prob(action),
        entropy=output.entropy(),
        entropy_perdim=each.entropy(),
        minent=narrow.entropy(),
        maxent=wide.entropy(),
    )
    _gradients(record, file, case, layers, output, action)


def _categorical(record: Record, file: Arrays, case: str) -> None:
    """One or several categoricals given by index, or one-hot vectors with unimix."""
    arrays, action = file.at(case), file.tensor(f"{case}.action")
    layers, (raw,) = _linears(file, case)
    classes = arrays["logits"].shape[-1]
    raw = raw.reshape(arrays["logits"].shape)
    onehot = action.is_floating_point()
    output = OneHot(raw, unimix=UNIMIX if onehot else 0.0, event=raw.ndim - 2)
    mode, theirs = output.mode, arrays.tensor("logits")
    if not onehot:
        action = nn.functional.one_hot(action.long(), classes).float()
        mode = mode.argmax(-1)
    record.values_of(
        arrays,
        case,
        probs=output.probs,
        pred=mode,
        logp=output.log_prob(action),
        entropy=output.entropy(),
    )
    # Logits are equal up to a constant per categorical; ours are log-probabilities.
    record.value(f"{case}.logits", output.logits, theirs.log_softmax(-1))
    _gradients(record, file, case, layers, output, action)


def _binary(record: Record, file: Arrays, case: str) -> None:
    arrays, (_, (raw,)) = file.at(case), _linears(file, case)
    output = Bernoulli(raw.reshape(arrays["logit"].shape))
    loss = output.nll(arrays.tensor("target"))
    record.values_of(
        arrays, case, logit=output.logit, prob1=output.mean, pred=output.mode, loss=loss
    )


def _normal_kl(record: Record, file: Arrays, case: str) -> None:
    arrays = file.at(case)
    names = ("m1", "s1", "m2", "s2")
    mean, *rest = (x.clone() for x in torch.broadcast_tensors(*map(arrays.tensor, names)))
    record.value(f"{case}.kl", gaussian_kl(mean, *rest), arrays["kl"])


def _init_std(record: Record, file: Arrays, case: str) -> None:
    fresh = torch.zeros(())
    record.value(case, BoundedNormal(fresh, fresh, low=LOW, high=HIGH).std, file[case])


def _head(record: Record, file: Arrays, case: str) -> None:
    arrays = file.at(case)
    params, feature = arrays.at("params"), arrays.tensor("feat")
    scope = next(iter(params)).split("/")[0]
    sizes = {
        "units": params[f"{scope}/mlp/linear0/bias"].size,
        "layers": count(params, f"{scope}/mlp/linear{{}}/"),
    }
    binary = f"{scope}/head/logit/bias" in params
    if binary:
        head: nn.Module = BinaryHead(feature.shape[-1], **sizes)
    else:
        bins = params[f"{scope}/head/logits/bias"].size
        head = TwoHotHead(feature.shape[-1], **sizes, bins=bins)
    load_jax(head, params, scope=scope)
    output = head(feature)
    loss = output.nll(arrays.tensor("target"))
    record.values_of(arrays, case, pred=output.mode if binary else output.mean, loss=loss)
    if binary:
        record.value(f"{case}.logits", output.logit, arrays["logits"])
    else:
        theirs = arrays.tensor("logits").log_softmax(-1)
        record.value(f"{case}.logits", output.logits, theirs)

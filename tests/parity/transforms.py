"""Groups a and b: scalar transforms, two-hot, λ-returns."""

import re
from collections.abc import Iterator

import torch

from parity.arrays import Arrays
from parity.record import Check, Record
from worldblocks.distributions import TwoHot
from worldblocks.returns import lambda_return
from worldblocks.transforms import symexp, symexp_bins, symlog, two_hot, two_hot_mean


def symlog_checks(file: Arrays) -> Iterator[Check]:
    """symlog, symexp and their round trip."""

    def run(record: Record) -> None:
        record.value("symlog", symlog(file.tensor("x")), file["symlog"])
        record.value("symexp", symexp(file.tensor("xe")), file["symexp"])
        record.value("roundtrip", symlog(symexp(file.tensor("roundtrip_x"))), file["roundtrip"])

    yield Check("a", file.name, "symlog, symexp", run)


def two_hot_checks(file: Arrays) -> Iterator[Check]:
    """Bins, two-hot targets, their loss and its gradient, the mean."""
    yield Check("a", file.name, "two-hot: bins, target, loss, mean", lambda r: _two_hot(r, file))


def _two_hot(record: Record, file: Arrays) -> None:
    for name in file:
        if re.fullmatch(r"bins\d+", name):
            record.value(name, symexp_bins(len(file[name])), file[name])
    logits, targets = file.tensor("logits"), file.tensor("targets")
    bins = symexp_bins(logits.shape[-1])
    output = TwoHot(logits, bins)
    record.value("loss", output.nll(targets), file["loss"])
    record.value("log_prob", output.log_prob(targets), file["log_prob"])
    record.value("pred", output.mean, file["pred"])
    record.value("pred", two_hot_mean(logits.softmax(-1), bins), file["pred"])
    target = two_hot(targets, bins)
    record.value("twohot_target_from_grad", target, file["twohot_target_from_grad"])
    for name in file:
        if match := re.fullmatch(r"(probs|loss_grad)_row(\d+)", name):
            _row(record, file, name, logits[int(match[2])], targets)
        if match := re.fullmatch(r"logits(\d+)", name):
            more = TwoHot(file.tensor(name), symexp_bins(file[name].shape[-1]))
            loss = f"loss{match[1]}"
            record.value(f"pred{match[1]}", more.mean, file[f"pred{match[1]}"])
            record.value(loss, more.nll(targets[: len(more.mean)]), file[loss])


def _row(
    record: Record, file: Arrays, name: str, logits: torch.Tensor, targets: torch.Tensor
) -> None:
    """One row of logits against every target: its probabilities, its gradients."""
    if name.startswith("probs"):
        record.value(name, logits.softmax(-1), file[name])
        return
    rows = logits.expand(len(targets), -1).clone().requires_grad_()
    loss = TwoHot(rows, symexp_bins(len(logits))).nll(targets).sum()
    record.gradient(name, torch.autograd.grad(loss, rows)[0], file[name])


def return_checks(file: Arrays) -> Iterator[Check]:
    """λ-returns from rows in the reference's order: reward and flags of the same row."""

    def run(record: Record, case: str) -> None:
        arrays = file.at(case)
        ours = returns(arrays, arrays.number("disc"), arrays.number("lam"))
        record.value(f"{case}.ret", ours, arrays["ret"])

    for case in file.parts():
        yield Check("b", f"{file.name} {case}", "λ-return", lambda r, case=case: run(r, case))


def returns(arrays: Arrays, discount: float, lam: float) -> torch.Tensor:
    """λ-returns of arrays `last`, `term`, `rew`, `boot`, given per row."""
    last, term, reward, boot = (
        arrays.tensor(name).float() for name in ("last", "term", "rew", "boot")
    )
    live, weight = (1 - term) * discount, (1 - last) * lam
    return lambda_return(reward[:, 1:], live[:, 1:], boot[:, 1:], weight[:, 1:])

"""Groups a to c: scalar transforms, two-hot, λ-returns, categoricals with unimix and their KL."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from parity.arrays import Arrays
from parity.record import Check, Record
from worldblocks.distributions import OneHot, TwoHot
from worldblocks.losses import balanced_kl, categorical_kl
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
            _two_hot_row(record, file, name, logits[int(match[2])], targets)
        if match := re.fullmatch(r"logits(\d+)", name):
            more = TwoHot(file.tensor(name), symexp_bins(file[name].shape[-1]))
            loss = f"loss{match[1]}"
            record.value(f"pred{match[1]}", more.mean, file[f"pred{match[1]}"])
            record.value(loss, more.nll(targets[: len(more.mean)]), file[loss])


def _two_hot_row(
    record: Record, file: Arrays, name: str, logits: torch.Tensor, targets: torch.Tensor
) -> None:
    """The probabilities of one row of logits, or its gradients for every target."""
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
    """λ-returns of the arrays `last`, `term`, `rew`, `boot`, one value per row."""
    last, term, reward, boot = (
        arrays.tensor(name).float() for name in ("last", "term", "rew", "boot")
    )
    live, weight = (1 - term) * discount, (1 - last) * lam
    return lambda_return(reward[:, 1:], live[:, 1:], boot[:, 1:], weight[:, 1:])


FREE_NATS, UNIMIX = 1.0, 0.01  # of the reference
DYN, REP = 1.0, 0.1  # weights in the loss whose gradients are recorded


def one_hot_checks(file: Arrays) -> Iterator[Check]:
    """One row for each unimix, one for the losses, one for the gradient."""
    for case in file.parts():
        if case.startswith("unimix"):
            what = "one-hot: probabilities, entropy, KL, log-probability, mode"
            yield Check("c", f"{file.name} {case}", what, lambda r, c=case: _one_hot(r, file, c))
    yield Check("c", f"{file.name} loss", "balanced KL, entropies", lambda r: _kl(r, file))
    yield Check("c", f"{file.name} st", "straight-through sample", lambda r: _sample(r, file))


def _one_hot(record: Record, file: Arrays, case: str) -> None:
    arrays, unimix = file.at(case), int(case.removeprefix("unimix")) / 100
    post, prior = (OneHot(file.tensor(name), unimix=unimix) for name in ("post", "prior"))
    record.values_of(
        arrays,
        case,
        post_probs=post.probs,
        prior_probs=prior.probs,
        post_entropy=post.entropy(),
        prior_entropy=prior.entropy(),
        kl=categorical_kl(file.tensor("post"), file.tensor("prior"), unimix=unimix),
        event_logp=post.log_prob(arrays.tensor("event_onehot")),
        mode=post.mode,
    )
    # Logits are equal up to a constant per categorical; ours are log-probabilities.
    theirs = arrays.tensor("post_logits").log_softmax(-1)
    record.value(f"{case}.post_logits", post.logits, theirs)


def _kl(record: Record, file: Arrays) -> None:
    arrays = file.at("loss")
    post, prior = (file.tensor(name).requires_grad_() for name in ("post", "prior"))
    of_post, of_prior = (OneHot(x, unimix=UNIMIX, event=1) for x in (post, prior))
    dyn, rep = balanced_kl(of_post, of_prior, free_nats=FREE_NATS)
    record.values_of(
        arrays,
        "loss",
        dyn=dyn,
        rep=rep,
        kl_raw=of_post.kl(of_prior),
        dyn_ent=of_prior.entropy(),
        rep_ent=of_post.entropy(),
    )
    dyn, rep = dyn.mean(), rep.mean()
    for name, loss in {"dyn": dyn, "rep": rep, "total": DYN * dyn + REP * rep}.items():
        gradients = torch.autograd.grad(loss, (post, prior), retain_graph=True, allow_unused=True)
        for of, gradient in zip(("post", "prior"), gradients, strict=True):
            array = f"grad_{name}_{of}"
            record.gradient(f"loss.{array}", gradient, arrays[array])


def _sample(record: Record, file: Arrays) -> None:
    arrays = file.at("st")
    logits, value = file.tensor("post").requires_grad_(), arrays.tensor("value")
    output = OneHot(logits, unimix=UNIMIX)
    sample = output.sample(noise_for(output, value.round()))
    record.value("st.value", sample, value)
    (sample * arrays.tensor("w")).sum().backward()
    record.gradient("st.grad_logits", logits.grad, arrays["grad_logits"])


def noise_for(output: OneHot, onehot: Tensor) -> Tensor:
    """Uniform noise for which `output.sample(noise)` gives these one-hots."""
    probs = output.probs.detach()
    upper = (probs.cumsum(-1) * onehot).sum(-1)
    return upper - (probs * onehot).sum(-1) / 2

"""Group c: categoricals with unimix, their KL, the straight-through gradient."""

from collections.abc import Iterator

import torch
from torch import Tensor

from parity.arrays import Arrays
from parity.record import Check, Record
from worldblocks.distributions import OneHot
from worldblocks.losses import balanced_kl, categorical_kl

FREE_NATS, UNIMIX = 1.0, 0.01  # of the reference
DYN, REP = 1.0, 0.1  # weights of the two in what the gradients are of


def checks(file: Arrays) -> Iterator[Check]:
    """One row for each share of the uniform, one for the losses, one for the gradient."""
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
    # Logits are equal up to a constant of each categorical; ours are log-probabilities.
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
    """Uniform noise that makes `output.sample(noise)` the given one-hots."""
    probs = output.probs.detach()
    upper = (probs.cumsum(-1) * onehot).sum(-1)
    return upper - (probs * onehot).sum(-1) / 2

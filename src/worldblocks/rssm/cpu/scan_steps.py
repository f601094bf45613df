"""`RSSM.observe` as one function with its own backward pass, for a CPU: forward.

Two savings over the loop under autograd that it must equal: a step is some forty operations into
memory that is there already, and the gradient of a weight is one product over all rows of the
sequence instead of a sum over its steps. The formulas are those of `BlockGRU` and
`CategoricalLatent`. Time comes first here, so that a step is one piece of memory.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.distributions import inverse_cdf, softmax
from worldblocks.layers.fused import scaled
from worldblocks.rssm.cores.gates import gated_tanh

ZERO = torch.zeros((), device="cpu")  # whatever the default is when this file is first read


class Weights(NamedTuple):
    """What a step of the core multiplies by."""

    deter: Float[Tensor, "hidden deter"]
    deter_bias: Float[Tensor, " hidden"]
    stoch: Float[Tensor, "hidden stoch"]
    stoch_bias: Float[Tensor, " hidden"]
    inner_scale: Float[Tensor, "2 hidden"]  # of the norms after the two maps above
    own: Float[Tensor, "blocks part part"]  # the first block-linear layer: its block of deter
    shared: Float[Tensor, "3*hidden deter"]  # the same layer: the projections
    first_bias: Float[Tensor, " deter"]
    first_scale: Float[Tensor, " deter"]
    gates: Float[Tensor, "blocks part 3*part"]
    gates_bias: Float[Tensor, "blocks 1 3*part"]  # 1 already taken off the update gate's


class Posterior(NamedTuple):
    """What the posterior of a step multiplies by."""

    post: Float[Tensor, "hidden deter"]
    post_scale: Float[Tensor, " hidden"]
    out: Float[Tensor, "stoch hidden"]
    out_bias: Float[Tensor, " stoch"]


class Inputs(NamedTuple):
    """Inputs of a scan apart from the weights, `time batch ...`."""

    deter: Float[Tensor, "batch deter"]  # of the row before the first
    stoch: Float[Tensor, "batch stoch"]
    projected: Float[Tensor, "time batch hidden"]  # of the embedding, bias included
    actions: Float[Tensor, "time batch hidden"]  # projected too
    is_first: Bool[Tensor, "time batch"]
    noise: Float[Tensor, "time batch groups"] | None  # None: take the modes


class Settings(NamedTuple):
    """The numbers of a scan."""

    groups: int
    unimix: float
    eps: float  # of the norms


class Tape(NamedTuple):
    """What all steps leave behind, `time ...`."""

    deter_in: Float[Tensor, "time batch deter"]  # the carry a step took, zeros after a reset
    stoch_in: Float[Tensor, "time batch stoch"]
    inner: Float[Tensor, "time batch 2 hidden"]  # both maps of the carry, before norm and SiLU
    shared: Float[Tensor, "time batch 3*hidden"]  # after them; then the projected action
    first: Float[Tensor, "time batch deter"]  # before norm and SiLU
    x: Float[Tensor, "time batch deter"]  # after them
    gates: Float[Tensor, "time blocks batch 3 part"]  # reset, candidate, update
    sigmoid: Float[Tensor, "time blocks batch 2 part"]  # of the reset and update gates
    candidate: Float[Tensor, "time blocks batch part"]
    deter: Float[Tensor, "time batch deter"]
    post: Float[Tensor, "time batch hidden"]  # before norm and SiLU
    hidden: Float[Tensor, "time batch hidden"]  # after them
    logits: Float[Tensor, "time batch groups classes"]
    probs: Float[Tensor, "time batch groups classes"]  # their softmax, not mixed
    stoch: Float[Tensor, "time batch groups classes"]


class Step(NamedTuple):
    """One step's part of what is read and written, under the names of `Tape`.

    `..._blocks` is the same memory seen block by block, `blocks batch part`.
    """

    tape: Tape
    map_deter: Tensor
    map_stoch: Tensor
    shared_out: Tensor
    deter_in_blocks: Tensor
    first_blocks: Tensor
    x_blocks: Tensor
    deter_blocks: Tensor
    reset: Tensor
    raw: Tensor
    update: Tensor
    gated: Tensor  # the two gates that a sigmoid is taken of


def run_steps(inputs: Inputs, w: Weights, p: Posterior, settings: Settings) -> Tape:
    """Run all steps."""
    time, batch, hidden = inputs.projected.shape
    tape = memory(time, batch, w, settings.groups)
    tape.shared[..., 2 * hidden :] = inputs.actions
    tape.stoch.zero_()
    draw = Sample(inputs.noise, settings.unimix, tape)
    post, out = p.post.t(), p.out.t()
    resets, flags = inputs.is_first.any(1).tolist(), inputs.is_first.unsqueeze(-1).unbind(0)
    deter, stoch, projected = inputs.deter, inputs.stoch, inputs.projected.unbind(0)
    for t, step in enumerate(steps_of(tape, w)):
        now = step.tape
        _mask(deter, flags[t], resets[t], now.deter_in)
        _mask(stoch, flags[t], resets[t], now.stoch_in)
        advance(step, w, settings.eps)
        torch.addmm(projected[t], now.deter, post, out=now.post)
        _norm_silu(now.post, p.post_scale, settings.eps, now.hidden)
        torch.addmm(p.out_bias, now.hidden, out, out=now.logits.flatten(1))
        draw(t, now)
        deter, stoch = now.deter, now.stoch.flatten(1)
    return tape


def advance(step: Step, w: Weights, eps: float) -> None:
    """`BlockGRU.step`: `deter` from `deter_in`, `stoch_in` and the action in `shared`."""
    now = step.tape
    torch.addmm(w.deter_bias, now.deter_in, w.deter.t(), out=step.map_deter)
    torch.addmm(w.stoch_bias, now.stoch_in, w.stoch.t(), out=step.map_stoch)
    _norm_silu(now.inner, w.inner_scale, eps, step.shared_out)
    torch.addmm(w.first_bias, now.shared, w.shared, out=now.first)
    step.first_blocks.add_(torch.bmm(step.deter_in_blocks, w.own))
    _norm_silu(now.first, w.first_scale, eps, now.x)
    torch.baddbmm(w.gates_bias, step.x_blocks, w.gates, out=now.gates.flatten(-2))
    torch.sigmoid(step.gated, out=now.sigmoid)
    gated_tanh(step.reset, step.raw, out=now.candidate)
    torch.lerp(step.deter_in_blocks, now.candidate, step.update, out=step.deter_blocks)


def memory(time: int, batch: int, w: Weights, groups: int) -> Tape:
    """Memory for this many steps."""
    hidden, deter = w.deter.shape
    stoch, (blocks, part, _) = w.stoch.shape[1], w.own.shape
    latent = groups, stoch // groups
    sizes = {
        "deter_in": (batch, deter),
        "stoch_in": (batch, stoch),
        "inner": (batch, 2, hidden),
        "shared": (batch, 3 * hidden),
        "first": (batch, deter),
        "x": (batch, deter),
        "gates": (blocks, batch, 3, part),
        "sigmoid": (blocks, batch, 2, part),
        "candidate": (blocks, batch, part),
        "deter": (batch, deter),
        "post": (batch, hidden),
        "hidden": (batch, hidden),
        "logits": (batch, *latent),
        "probs": (batch, *latent),
        "stoch": (batch, *latent),
    }
    return Tape(**{name: w.deter.new_empty(time, *size) for name, size in sizes.items()})


def steps_of(tape: Tape, w: Weights) -> Iterator[Step]:
    """The views of every step; one `unbind` a tensor is cheaper than an index a step."""
    hidden, blocks = len(w.deter_bias), len(w.own)
    pattern = "time batch (blocks part) -> time blocks batch part"
    by_block = [tape.deter_in, tape.first, tape.x, tape.deter]
    views = [
        *tape.inner.unbind(2),
        tape.shared[..., : 2 * hidden].unflatten(-1, (2, hidden)),
        *(rearrange(x, pattern, blocks=blocks) for x in by_block),
        tape.sigmoid[..., 0, :],
        tape.gates[..., 1, :],
        tape.sigmoid[..., 1, :],
        tape.gates[..., ::2, :],
    ]
    rows = zip(*(x.unbind(0) for x in tape), strict=True)
    others = zip(*(x.unbind(0) for x in views), strict=True)
    return (Step(Tape(*row), *other) for row, other in zip(rows, others, strict=True))


def _mask(x: Tensor, is_first: Tensor, any_first: bool, out: Tensor) -> None:
    """Zeros where an episode begins; a selection, so that what is not finite does not pass."""
    if any_first:
        torch.where(is_first, ZERO, x, out=out)
    else:
        out.copy_(x)


def _norm_silu(x: Tensor, scale: Tensor, eps: float, out: Tensor) -> None:
    """`silu(rms_norm(x) * scale)`."""
    F.silu(scaled(x, scale, eps, out)[0], inplace=True)


class Sample:
    """The latent of a step: softmax, uniform share, then inverse CDF, as `OneHot.sample`."""

    def __init__(self, noise: Tensor | None, unimix: float, tape: Tape) -> None:
        self.keep = 1 - unimix
        self.uniform = tape.probs.new_full((), unimix / tape.probs.shape[-1])
        self.noise = None if noise is None else noise.unsqueeze(-1).unbind(0)

    def __call__(self, t: int, now: Tape) -> None:
        """Fill the probabilities and the sample of step t."""
        now.probs.copy_(softmax(now.logits))
        mixed = torch.add(self.uniform, now.probs, alpha=self.keep)
        if self.noise is None:
            index = mixed.argmax(-1, keepdim=True)
        else:
            index = inverse_cdf(mixed, self.noise[t])
        chosen = mixed.gather(-1, index)
        now.stoch.scatter_(-1, index, chosen.div_(chosen))  # 1, or NaN where the logits are

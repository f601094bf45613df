"""`RSSM.observe` as one function with its own backward pass, for a CPU: backward.

What depends on no gradient (slopes of norms and gates) is computed for all steps at once, then the
steps run backwards, then each weight's gradient is one product over all rows.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from worldblocks._eager import first_order
from worldblocks.rssm.cpu.scan_steps import Inputs, Posterior, Settings, Tape, Weights, run_steps


class Scan(torch.autograd.Function):
    """`deter, stoch, logits` of all rows, `time batch ...`, from the fields of both tuples.

    The gradient of a sample is that of its probabilities (straight-through).
    """

    @staticmethod
    def forward(ctx: Any, settings: Settings, *tensors: Any) -> Any:
        """Run the steps, keep their tape."""
        inputs, weights, posterior = unflattened(tensors, Inputs, Weights, Posterior)
        tape = run_steps(inputs, weights, posterior, settings)
        if any(ctx.needs_input_grad):
            ctx.settings = settings
            ctx.save_for_backward(inputs.is_first, *weights, *posterior, *tape)
        return tape.deter, tape.stoch, tape.logits

    @staticmethod
    def backward(ctx: Any, deter: Any, stoch: Any, logits: Any) -> Any:  # type: ignore[override]
        """Gradients of all but the settings, the flags and the noise."""
        first_order("RSSM.observe", "a loop over RSSM.observe_step")
        is_first, *saved = ctx.saved_tensors
        weights, posterior, tape = unflattened(saved, Weights, Posterior, Tape)
        slopes = slopes_of(tape, weights, posterior, ctx.settings)
        back = Gradients(deter, stoch, logits, tape, weights, posterior)
        start = back.run(is_first, slopes)
        hidden = len(weights.deter_bias)
        inputs = Inputs(*start, back.post, back.shared[..., 2 * hidden :], None, None)  # type: ignore[arg-type]
        to_weights = weight_gradients(back, tape, len(weights.own), slopes)
        return None, *inputs, *to_weights, *posterior_gradients(back, tape, slopes)


def unflattened(tensors: Sequence[Any], *kinds: Any) -> Iterator[Any]:
    """The NamedTuples whose fields these are, one after the other."""
    left = iter(tensors)
    return (kind(*itertools.islice(left, len(kind._fields))) for kind in kinds)


class NormSlope(NamedTuple):
    """Derivatives of `silu(unit * scale)`, `unit = x * root`."""

    unit: Tensor
    silu: Tensor  # SiLU' at unit * scale
    full: Tensor  # SiLU' * scale * root

    @staticmethod
    def of(x: Tensor, scale: Tensor, eps: float) -> "NormSlope":
        """At inputs `x` of any batch axes."""
        root = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        unit = x * root
        y = unit * scale
        sigmoid = torch.sigmoid(y)
        silu = y.mul_(1 - sigmoid).add_(1).mul_(sigmoid)
        return NormSlope(unit, silu, (silu * scale).mul_(root))

    def steps(self) -> list["NormSlope"]:
        """One for each step."""
        parts = (x.unbind(0) for x in self)
        return [NormSlope(*part) for part in zip(*parts, strict=True)]

    def back(self, grad: Tensor, out: Tensor) -> Tensor:
        """The gradient of `x`, from that of the output."""
        torch.mul(grad, self.full, out=out)
        along = (out * self.unit).sum(-1, keepdim=True)
        return out.addcmul_(self.unit, along, value=-1 / out.shape[-1])

    def scale(self, grad: Tensor) -> Tensor:
        """The gradient of the scale, summed over time and batch."""
        return (grad * self.silu).mul_(self.unit).sum((0, 1))


class Slopes(NamedTuple):
    """Derivatives at every step."""

    inner: NormSlope
    first: NormSlope
    post: NormSlope
    gates: Tensor  # of the new state with respect to the three gates, before their sigmoids
    keep: Tensor  # of the new state with respect to the old
    probs: Tensor  # softmax, times the share that unimix leaves


def slopes_of(tape: Tape, w: Weights, p: Posterior, settings: Settings) -> Slopes:
    """All of them."""
    reset, update = tape.sigmoid.unbind(-2)
    raw, candidate = tape.gates[..., 1, :], tape.candidate
    keep = 1 - update
    through = (1 - candidate.square()).mul_(update).mul_(reset)
    gates = torch.empty_like(tape.gates)
    torch.mul(through, raw, out=gates[..., 0, :]).mul_(1 - reset)
    gates[..., 1, :] = through
    old = rearrange(
        tape.deter_in, "time batch (blocks part) -> time blocks batch part", blocks=len(w.own)
    )
    torch.sub(candidate, old, out=gates[..., 2, :]).mul_(update).mul_(keep)
    eps = settings.eps
    return Slopes(
        inner=NormSlope.of(tape.inner, w.inner_scale, eps),
        first=NormSlope.of(tape.first, w.first_scale, eps),
        post=NormSlope.of(tape.post, p.post_scale, eps),
        gates=gates,
        keep=keep,
        probs=tape.probs * (1 - settings.unimix),
    )


class Gradients:
    """Gradients of everything that a step computes, each `time ...` as in `Tape`."""

    def __init__(
        self,
        deter: Tensor,
        stoch: Tensor,
        logits: Tensor,
        tape: Tape,
        weights: Weights,
        posterior: Posterior,
    ) -> None:
        self.tape, self.weights, self.posterior = tape, weights, posterior
        self.deter, self.stoch = deter.unbind(0), stoch.unbind(0)
        self.logits = logits.clone()
        self.hidden = torch.empty_like(tape.hidden)
        self.post = torch.empty_like(tape.post)
        self.gates = torch.empty_like(tape.gates)
        self.x = torch.empty_like(tape.x)
        self.first = torch.empty_like(tape.first)
        self.shared = torch.empty_like(tape.shared)
        self.inner = torch.empty_like(tape.inner)

    def run(self, is_first: Tensor, slopes: Slopes) -> tuple[Tensor, Tensor]:
        """Fill all, from the last step to the first; the gradients of the carry it began with."""
        w, p, tape, blocks = self.weights, self.posterior, self.tape, len(self.weights.own)
        own, gates, shared = w.own.mT, w.gates.mT, w.shared.t()
        logits, hidden, post, x = (
            a.unbind(0) for a in (self.logits, self.hidden, self.post, self.x)
        )
        first, whole, inner = (a.unbind(0) for a in (self.first, self.shared, self.inner))
        to_gates, gate_slope = self.gates.unbind(0), slopes.gates.unbind(0)
        pattern = "time batch (blocks part) -> time blocks batch part"
        x_blocks, first_blocks = (
            rearrange(a, pattern, blocks=blocks).unbind(0) for a in (self.x, self.first)
        )
        width = inner[0].shape[1:]
        inputs = self.shared[..., : width.numel()].unflatten(-1, width).unbind(0)
        norms = zip(slopes.post.steps(), slopes.first.steps(), slopes.inner.steps(), strict=True)
        norms, keep = list(norms), slopes.keep.unbind(0)
        mixed, probs = slopes.probs.unbind(0), tape.probs.unbind(0)
        resets, flags = is_first.any(1).tolist(), is_first.unsqueeze(-1).unbind(0)
        to_deter, to_stoch = self.deter[-1], self.stoch[-1]
        for t in range(len(resets) - 1, -1, -1):
            post_norm, first_norm, inner_norm = norms[t]
            part = to_stoch * mixed[t]
            logits[t].add_(part).addcmul_(probs[t], part.sum(-1, keepdim=True), value=-1)
            torch.mm(logits[t].flatten(1), p.out, out=hidden[t])
            to_deter = torch.addmm(to_deter, post_norm.back(hidden[t], post[t]), p.post)
            by = to_deter.unflatten(-1, (blocks, -1)).transpose(0, 1)
            torch.mul(by.unsqueeze(-2), gate_slope[t], out=to_gates[t])
            x_blocks[t].copy_(torch.bmm(to_gates[t].flatten(-2), gates))
            torch.mm(first_norm.back(x[t], first[t]), shared, out=whole[t])
            inner_norm.back(inputs[t], inner[t])
            old = torch.baddbmm(by * keep[t], first_blocks[t], own).transpose(0, 1).flatten(1)
            to_deter = old.addmm_(inner[t][:, 0], w.deter)
            to_stoch = torch.mm(inner[t][:, 1], w.stoch)
            if resets[t]:
                to_deter, to_stoch = (torch.where(flags[t], 0.0, g) for g in (to_deter, to_stoch))
            if t:
                to_deter = to_deter + self.deter[t - 1]
                to_stoch = to_stoch.view_as(self.stoch[t - 1]) + self.stoch[t - 1]
        return to_deter, to_stoch


def weight_gradients(back: Gradients, tape: Tape, blocks: int, slopes: Slopes) -> Weights:
    """One product over all rows for each weight."""
    pattern = "time batch (blocks part) -> blocks (time batch) part"
    deter_blocks, x_blocks, first_blocks = (
        rearrange(x, pattern, blocks=blocks) for x in (tape.deter_in, tape.x, back.first)
    )
    gates = rearrange(back.gates, "time blocks batch gate part -> blocks (time batch) (gate part)")
    inner, first = _rows(back.inner), _rows(back.first)
    width = inner.shape[1:]
    inputs = back.shared[..., : width.numel()].unflatten(-1, width)
    return Weights(
        deter=inner[:, 0].t() @ _rows(tape.deter_in),
        deter_bias=inner[:, 0].sum(0),
        stoch=inner[:, 1].t() @ _rows(tape.stoch_in),
        stoch_bias=inner[:, 1].sum(0),
        inner_scale=slopes.inner.scale(inputs),
        own=deter_blocks.mT @ first_blocks,
        shared=_rows(tape.shared).t() @ first,
        first_bias=first.sum(0),
        first_scale=slopes.first.scale(back.x),
        gates=x_blocks.mT @ gates,
        gates_bias=gates.sum(1, keepdim=True),
    )


def posterior_gradients(back: Gradients, tape: Tape, slopes: Slopes) -> Posterior:
    """The same of the posterior."""
    logits = _rows(back.logits).flatten(1)
    return Posterior(
        post=_rows(back.post).t() @ _rows(tape.deter),
        post_scale=slopes.post.scale(back.hidden),
        out=logits.t() @ _rows(tape.hidden),
        out_bias=logits.sum(0),
    )


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, 1)

"""Optimisation: LaProp, adaptive gradient clipping, linear warm-up.

Nothing here reads a value back to the host, so a whole update can be captured in one CUDA graph.
"""

import collections
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# pyright: reportPrivateImportUsage=false
# (torch exports its `_foreach` functions, but does not declare them.)
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from worldblocks._wrong_call import not_negative, parameters_of


@torch.no_grad()
def adaptive_gradient_clip(
    parameters: Iterable[nn.Parameter], clip: float = 0.3, *, floor: float = 1e-3
) -> None:
    """Limit the norm of each gradient to `clip` times the norm of its parameter, in place.

        g <- g / max(1, |g| / (clip * max(floor, |p|)))

    Norms are over whole tensors, one for each parameter, biases and scales included. A zero
    parameter may receive a gradient of norm `clip * floor`. Call it between `backward()` and the
    `step()` of any optimiser.

    Source: Brock et al. 2021 (arXiv:2102.06171), per tensor as in DreamerV3 (clip 0.3).

    >>> p = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> p.grad = torch.tensor([30.0, 40.0])
    >>> adaptive_gradient_clip([p], clip=0.1)
    >>> p.grad.tolist()
    [0.30000001192092896, 0.4000000059604645]
    """
    if clip <= 0:
        raise ValueError(f"adaptive_gradient_clip needs a positive clip, got {clip}")
    by_device = collections.defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            by_device[parameter.device].append(parameter)
    for trained in by_device.values():
        gradients: list[Tensor] = [p.grad for p in trained]
        # All norms as one vector, for few operations.
        limits = clip * torch.stack(torch._foreach_norm(trained)).clamp(min=floor)
        ratios = torch.stack(torch._foreach_norm(gradients)) / limits
        torch._foreach_div_(gradients, list(ratios.clamp(min=1)))


def warmup(optimizer: Optimizer, steps: int) -> LambdaLR:
    """A linear warm-up for any optimiser: update t (from 0) uses `lr * min(1, t / steps)`.

    The first update has a learning rate of exactly 0. Call `.step()` after each update. `LaProp`
    has the same schedule built in.

    If the update is captured in a CUDA graph, the learning rate must be a tensor, which the
    schedule writes in place, and `.step()` must be called outside the graph.

    Raises:
        ValueError: `steps` is negative.
        RuntimeError: `.step()`, or an update with a float `lr`, is being captured.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule = warmup(optimizer, 4)
    >>> schedule.get_last_lr()
    [0.0]
    """
    if steps < 0:
        raise ValueError(f"warmup needs steps >= 0, got {steps}")
    optimizer.register_step_pre_hook(_require_tensor_rate)
    return _Schedule(optimizer, lambda update: min(1.0, update / steps) if steps else 1.0)


class _Schedule(LambdaLR):
    """A schedule that raises inside a CUDA graph, where it would be recorded but never run."""

    def step(self, epoch: int | None = None) -> None:
        if _capturing():
            raise RuntimeError(
                "a schedule cannot be stepped inside a CUDA graph, which would repeat one learning "
                "rate forever; call its step() outside, or use the warm-up of LaProp"
            )
        super().step(epoch)


def _require_tensor_rate(optimizer: Optimizer, *_: Any) -> None:
    if _capturing() and not all(isinstance(g["lr"], Tensor) for g in optimizer.param_groups):
        raise RuntimeError(
            "an optimiser with a schedule is being captured with a float as lr, which a CUDA graph "
            "never changes; use a tensor on the device as lr, or the warm-up of LaProp"
        )


def _capturing() -> bool:
    if torch.compiler.is_compiling() or not torch.cuda.is_available():
        return False
    return torch.cuda.is_current_stream_capturing()


def remove_parameters(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Remove parameters and their state from an optimiser.

    Groups that become empty are removed too. All other state is unchanged, to the bit.

    Raises:
        ValueError: a parameter is not in the optimiser, which is then unchanged.

    >>> stays, goes = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    >>> optimizer = torch.optim.SGD([stays, goes], lr=0.1)
    >>> remove_parameters(optimizer, [goes])
    >>> [group["params"] == [stays] for group in optimizer.param_groups]
    [True]
    """
    gone = {id(parameter): parameter for parameter in parameters}
    there = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if missing := gone.keys() - there:
        raise ValueError(
            f"{len(missing)} of {len(gone)} parameters are not in this optimiser, which has "
            f"{len(there)}; pass only those"
        )
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in gone]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for parameter in gone.values():
        optimizer.state.pop(parameter, None)


class LaProp(Optimizer):
    """RMS-normalised gradients, then momentum; optional clipping, warm-up and weight decay.

        g <- adaptive_gradient_clip(g)                          if agc
        v <- β₂ v + (1 - β₂) g²        u = g / (sqrt(v / (1 - β₂ᵗ)) + eps)
        m <- β₁ m + (1 - β₁) u         p <- p - lr(t) (m / (1 - β₁ᵗ) + weight_decay p)

    Unlike in Adam, the momentum averages *normalised* gradients. The learning rate is
    `lr(t) = lr min(1, (t - 1) / warmup)`, so that with a warm-up the first update changes nothing.
    Each parameter counts its own updates t, those for which it had a gradient.

    Args:
        params: parameters or parameter groups.
        lr: learning rate after the warm-up. A captured CUDA graph freezes a float; a tensor on the
            device of the parameters can be changed (`lr.fill_`) at any time.
        betas: β₁ of the momentum, β₂ of the second moment.
        eps: added to the root; tiny, because the scale of the gradient should not matter.
        agc: `clip` of `adaptive_gradient_clip`; 0 turns it off.
        warmup: number of updates until the full learning rate.
        weight_decay: decoupled, as in AdamW.

    Raises:
        ValueError: a number is out of range, or `lr` is a tensor on another device.

    Source: Ziyin et al. 2020 (arXiv:2002.04839); constants of DreamerV3.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Float[Tensor, ""] = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        *,
        agc: float = 0.0,
        warmup: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "agc": agc, "warmup": warmup, "weight_decay": weight_decay}
        not_negative("LaProp", numbers)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"LaProp needs betas in [0, 1), got {betas}")
        # "capturable" makes PyTorch keep the counts on the device when a state is loaded.
        params = parameters_of("LaProp", params)
        super().__init__(params, {**numbers, "betas": betas, "capturable": True})
        for group in self.param_groups:
            rate, device = group["lr"], group["params"][0].device
            if isinstance(rate, Tensor) and rate.device != device:
                raise ValueError(
                    f"LaProp got lr as a tensor on {rate.device} for parameters on {device}; use a "
                    f"tensor on {device}, or a float"
                )

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Load a state into the existing tensors, which a captured CUDA graph may refer to."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        states = [(p, self.state[p]) for p in parameters if p in self.state]
        rates = [group["lr"] for group in self.param_groups]
        super().load_state_dict(dict(state_dict))
        for parameter, ours in states:
            loaded = self.state[parameter]
            for name, tensor in ours.items():
                # A parameter without saved state starts at zero, as in `_state_of`.
                loaded[name] = tensor.copy_(loaded[name]) if name in loaded else tensor.zero_()
        for group, rate in zip(self.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):
                group["lr"] = rate.copy_(torch.as_tensor(group["lr"]))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if trained:
                self._update(group, trained)
        return loss

    def _update(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        states = [self._state_of(p) for p in trained]
        squares = [state["square"] for state in states]
        momenta = [state["momentum"] for state in states]
        counts = [state["step"] for state in states]
        torch._foreach_add_(counts, 1)
        steps = torch.stack(counts)  # one per parameter, which may join late or pause
        if group["agc"]:
            adaptive_gradient_clip(trained, group["agc"])  # type: ignore[arg-type]
        gradients: list[Tensor] = [p.grad for p in trained]  # type: ignore[misc]

        beta1, beta2 = group["betas"]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_div(squares, list(1 - beta2**steps))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_lerp_(momenta, torch._foreach_div(gradients, roots), 1 - beta1)
        rates = self._rates(group, steps)
        if group["weight_decay"]:
            torch._foreach_mul_(trained, list(1 - group["weight_decay"] * rates))
        torch._foreach_addcmul_(trained, momenta, list(rates / (1 - beta1**steps)), value=-1)

    def _rates(self, group: dict[str, Any], steps: Tensor) -> Tensor:
        if not group["warmup"]:
            return group["lr"] * torch.ones_like(steps)
        # lr - lr * rest, as in the reference: in float32 the order matters in the first updates.
        rest = (1 - (steps - 1) / group["warmup"]).clamp(min=0)
        return group["lr"] - group["lr"] * rest

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["square"] = torch.zeros_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        return state


def dreamer_optimizer(
    params: Iterable[nn.Parameter],
    lr: float = 4e-5,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-20,
    agc: float = 0.3,
    warmup: int = 1000,
) -> LaProp:
    """The optimiser of DreamerV3's released code: LaProp with per-tensor clipping and warm-up.

    Parameters that require no gradient (those of a slow copy) are left out.
    """
    params = parameters_of("dreamer_optimizer", params)
    trained = [p for p in params if p.requires_grad]
    if not trained:
        raise ValueError(f"none of {len(params)} parameters requires a gradient; requires_grad_()?")
    return LaProp(trained, lr, betas, eps, agc=agc, warmup=warmup)

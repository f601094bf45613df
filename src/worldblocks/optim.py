"""Optimisation: LaProp, adaptive gradient clipping per tensor, linear warm-up.

Nothing here reads a value back to the host, so a whole update can be captured in one CUDA graph.
"""

from collections.abc import Callable, Iterable
from typing import Any

# pyright: reportPrivateImportUsage=false
# (torch exports its `_foreach` functions, but does not declare them.)
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@torch.no_grad()
def adaptive_gradient_clip(
    parameters: Iterable[nn.Parameter], clip: float = 0.3, *, floor: float = 1e-3
) -> None:
    """Limit the norm of each gradient to a share of the norm of its parameter, in place.

        g <- g / max(1, |g| / (clip * max(floor, |p|)))

    Norms are over whole tensors (one for each parameter, biases and scales included), so a tensor
    of zeros may receive a gradient of norm `clip * floor`. Call it between `backward()` and the
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
    trained: list[Tensor] = [p for p in parameters if p.grad is not None]
    gradients: list[Tensor] = [p.grad for p in trained]  # type: ignore[misc]
    if not trained:
        return
    limits = torch._foreach_norm(trained)
    torch._foreach_maximum_(limits, floor)
    torch._foreach_mul_(limits, clip)
    ratios = torch._foreach_norm(gradients)
    torch._foreach_div_(ratios, limits)
    torch._foreach_maximum_(ratios, 1.0)
    torch._foreach_div_(gradients, ratios)


def warmup(optimizer: Optimizer, steps: int) -> LambdaLR:
    """A schedule for any optimiser: update t (from 0) has `lr * min(1, t / steps)`.

    The first update has a learning rate of exactly 0. Call `.step()` after each update. `LaProp`
    has the same schedule built in.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule = warmup(optimizer, 4)
    >>> schedule.get_last_lr()
    [0.0]
    """
    if steps < 0:
        raise ValueError(f"warmup takes a number of updates, got {steps}")
    return LambdaLR(optimizer, lambda update: min(1.0, update / steps) if steps else 1.0)


class LaProp(Optimizer):
    """RMS-normalised gradients, then momentum; optional clipping, warm-up and weight decay.

        g <- adaptive_gradient_clip(g)                          if agc
        v <- β₂ v + (1 - β₂) g²        u = g / (sqrt(v / (1 - β₂ᵗ)) + eps)
        m <- β₁ m + (1 - β₁) u         p <- p - lr(t) (m / (1 - β₁ᵗ) + weight_decay p)

    Unlike Adam the momentum averages *normalised* gradients. `lr(t) = lr min(1, (t - 1) / warmup)`:
    with a warm-up the first update leaves the parameters as they are. Each parameter counts its own
    updates t, those for which it had a gradient.

    Args:
        params: parameters or parameter groups.
        lr: learning rate after the warm-up.
        betas: β₁ of the momentum, β₂ of the second moment.
        eps: added to the root; tiny, because the gradient's scale should not matter.
        agc: clip of `adaptive_gradient_clip`; 0 turns it off.
        warmup: updates until the full learning rate.
        weight_decay: decoupled, as in AdamW.

    Source: Ziyin et al. 2020 (arXiv:2002.04839); constants of DreamerV3.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        *,
        agc: float = 0.0,
        warmup: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "agc": agc, "warmup": warmup, "weight_decay": weight_decay}
        for name, value in numbers.items():
            if value < 0:
                raise ValueError(f"LaProp needs {name} >= 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"LaProp needs betas in [0, 1), got {betas}")
        # "capturable" makes PyTorch keep the counts on the device when a state is loaded.
        super().__init__(params, {**numbers, "betas": betas, "capturable": True})

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
        steps = torch.stack(counts)  # each its own: a parameter may join late or pause
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
        updates = torch._foreach_div(momenta, list(1 - beta1**steps))
        if group["weight_decay"]:
            torch._foreach_add_(updates, trained, alpha=group["weight_decay"])
        torch._foreach_mul_(updates, self._rates(group, steps))
        torch._foreach_sub_(trained, updates)

    def _rates(self, group: dict[str, Any], steps: Tensor) -> list[Tensor] | float:
        if not group["warmup"]:
            return group["lr"]
        # As lr - lr * rest, like the reference: in float32 the order shows in the first updates.
        rest = (1 - (steps - 1) / group["warmup"]).clamp(min=0)
        return list(group["lr"] - group["lr"] * rest)

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
    """The optimiser of DreamerV3's released code: per-tensor clipping, LaProp, linear warm-up.

    Parameters that take no gradient (those of a slow copy) are left out.
    """
    trained = [p for p in params if p.requires_grad]
    return LaProp(trained, lr, betas, eps, agc=agc, warmup=warmup)

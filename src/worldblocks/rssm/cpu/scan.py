"""When `RSSM.observe` runs as one function with its own backward pass, and how it is called."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldblocks._eager import eager_on_cpu
from worldblocks.distributions import wants_mode
from worldblocks.layers import BlockLinear, Layer, Linear, RMSNorm
from worldblocks.rssm.cores import BlockGRU
from worldblocks.rssm.cpu.scan_gradient import Scan
from worldblocks.rssm.cpu.scan_steps import Posterior, Settings, Weights
from worldblocks.rssm.latents import CategoricalLatent
from worldblocks.rssm.state import Carry, State

METHODS = {"forward", "by_block", "activate", "silu", "step", "posterior", "distribution"}


def fused_observe(
    core: Any, latent: Any, projected: Float[Tensor, "batch time hidden"]
) -> Callable[..., State] | None:
    """`RSSM._observe` of these parts in one function, where that exists and pays; else None.

    It exists for a `BlockGRU` with a `CategoricalLatent`, on a CPU, in float32, eagerly.
    """
    if not eager_on_cpu(projected) or torch.is_autocast_enabled("cpu"):
        return None
    # Exactly these types, unpatched: a subclass may compute something else.
    if not (_plain(core, BlockGRU) and _plain(latent, CategoricalLatent)):
        return None
    if len(core.hidden) != 1 or len(latent.posterior_mlp) != 1 or latent.absolute:
        return None
    norm, layers = core.norms[0], [core.from_deter, core.from_stoch, *latent.posterior_mlp]
    blocks = [core.hidden[0], core.gates]
    plain = (
        _plain(norm, RMSNorm)
        and _plain_layers(layers, norm.eps)
        and all(_plain(part, BlockLinear) for part in blocks)
        and _plain(latent.posterior_out, Linear)
    )
    return functools.partial(observe_scan, core, latent) if plain else None


def _plain_layers(layers: Iterable[Any], eps: float) -> bool:
    """Whether layers are as they come, with this constant in their norms."""
    return all(
        _plain(layer, Layer)
        and _plain(layer.linear, Linear)
        and _plain(layer.norm, RMSNorm)
        and layer.norm.eps == eps
        for layer in layers
    )


def _plain(part: Any, kind: type[nn.Module]) -> bool:
    """Whether `part` is exactly a `kind`, with no hooks and no patched methods."""
    return type(part) is kind and not (
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or METHODS & vars(part).keys()
    )


def observe_scan(
    core: BlockGRU,
    latent: CategoricalLatent,
    carry: Carry,
    projected: Float[Tensor, "batch time hidden"],
    actions: Float[Tensor, "batch time hidden"],
    is_first: Bool[Tensor, "batch time"],
    noise: Float[Tensor, "batch time groups"],
) -> State:
    """`RSSM.observe` from where its inputs are projected."""
    settings = Settings(latent.groups, latent.unimix, core.norms[0].eps)  # type: ignore[arg-type]
    fields = Scan.apply(
        settings,
        carry.memory,
        carry.stoch.flatten(1),
        projected.transpose(0, 1),
        actions.transpose(0, 1),
        is_first.t(),
        None if wants_mode() else noise.transpose(0, 1),
        *weights_of(core),
        *posterior_of(latent),
    )
    return State(*(field.transpose(0, 1).contiguous() for field in fields))


def weights_of(core: BlockGRU) -> Weights:
    """The parameters as a step of the core multiplies by them."""
    blocks, layer = core.blocks, core.hidden[0]
    part = core.deter // blocks
    own, rest = layer.weight.split([part, layer.weight.shape[1] - part], 1)  # type: ignore[union-attr,operator]
    shift = layer.bias.new_tensor([[0.0], [0.0], [1.0]])  # type: ignore[operator]
    return Weights(
        deter=core.from_deter.linear.weight,
        deter_bias=core.from_deter.linear.bias,
        stoch=core.from_stoch.linear.weight,
        stoch_bias=core.from_stoch.linear.bias,
        inner_scale=torch.stack([core.from_deter.norm.scale, core.from_stoch.norm.scale]),
        own=own,
        shared=rest.transpose(0, 1).flatten(1),
        first_bias=layer.bias,  # type: ignore[arg-type]
        first_scale=core.norms[0].scale,  # type: ignore[arg-type]
        gates=core.gates.weight,
        gates_bias=(core.gates.bias.view(blocks, 3, part) - shift).view(blocks, 1, -1),
    )


def posterior_of(latent: CategoricalLatent) -> Posterior:
    """The parameters of the posterior."""
    first = latent.posterior_mlp[0]
    assert isinstance(first, Layer)
    return Posterior(
        post=first.linear.weight[:, : latent.deter],
        post_scale=first.norm.scale,
        out=latent.posterior_out.weight,
        out_bias=latent.posterior_out.bias,
    )

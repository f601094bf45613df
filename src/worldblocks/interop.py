"""Load parameters of the official JAX implementation into our blocks."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.decoders import ImageDecoder, MultiDecoder, VectorDecoder
from worldblocks.encoders import ImageEncoder, MultiEncoder, VectorEncoder
from worldblocks.heads import ActorHead, BinaryHead, NormalHead, OneHotHead, TwoHotHead
from worldblocks.layers import MLP, BlockLinear, Conv2d, Linear, RMSNorm
from worldblocks.rssm import RSSM, BlockGRU, CategoricalLatent
from worldblocks.spaces import Continuous

_LEAF = {"weight": "kernel", "bias": "bias", "scale": "scale"}


def load_jax(block: nn.Module, params: Mapping[str, Any], scope: str = "") -> None:
    """Copy parameters of an official checkpoint into a block.

    Args:
        block: an encoder, decoder, RSSM, core, head, MLP or single layer of this library.
        params: arrays by official name, such as `dyn/dyngru/kernel`, in the official layouts
            (kernels are input first; convolutions are height, width, input, output).
        scope: name prefix of this block; names outside it are ignored.

    Raises:
        KeyError: parameters are missing or unexpected; names all of them.
        ValueError: a shape differs; names the first parameter and both shapes.
    """
    tensors = from_jax(block, params, scope=scope)
    with torch.no_grad():
        for name, tensor in tensors.items():
            block.get_parameter(name).copy_(tensor)


def from_jax(
    block: nn.Module, arrays: Mapping[str, Any], *, scope: str = ""
) -> dict[str, Float[Tensor, "..."]]:
    """The arrays that `load_jax` copies, by our parameter names and in our layouts.

    Works for anything with one array per parameter: parameters, gradients, moments. Arguments and
    errors are those of `load_jax`.
    """
    prefix = f"{scope.rstrip('/')}/" if scope else ""
    wanted = {prefix + theirs: ours for ours, theirs in jax_names(block).items()}
    given = {name for name in arrays if name.startswith(prefix)}
    missing, unexpected = sorted(set(wanted) - given), sorted(given - set(wanted))
    if missing or unexpected:
        raise KeyError(
            f"load_jax into {type(block).__name__} with scope {scope!r}: missing {missing}, "
            f"unexpected {unexpected}"
        )
    tensors = {}
    for theirs, ours in wanted.items():
        path, _, leaf = ours.rpartition(".")
        tensor = to_torch(block.get_submodule(path), leaf, np.asarray(arrays[theirs]))
        shape = block.get_parameter(ours).shape
        if tensor.shape != shape:
            raise ValueError(
                f"load_jax: {theirs} has shape {np.shape(arrays[theirs])}, which is "
                f"{tuple(tensor.shape)} here, but {ours} is {tuple(shape)}; is the model size the "
                f"same?"
            )
        tensors[ours] = tensor
    return tensors


def to_torch(module: nn.Module, leaf: str, array: np.ndarray) -> Float[Tensor, "..."]:
    """Convert an official parameter or gradient of a layer to our layout."""
    tensor = torch.from_numpy(np.array(array, np.float32))
    if leaf == "weight" and isinstance(module, Conv2d) and tensor.ndim == 4:
        pattern = "height width input output -> output input height width"
        return rearrange(tensor, pattern).contiguous()
    if leaf == "weight" and isinstance(module, Linear) and tensor.ndim > 1:
        return rearrange(tensor, "input ... -> (...) input").contiguous()
    return tensor if isinstance(module, BlockLinear) and leaf == "weight" else tensor.flatten()


def jax_names(block: nn.Module) -> dict[str, str]:
    """Our parameter names of a block to the official names, without scope."""
    names: dict[str, str] = {}
    for ours, theirs in _places(block):
        module = block.get_submodule(ours)
        for leaf, _ in module.named_parameters(recurse=False):
            names[f"{ours}.{leaf}" if ours else leaf] = f"{theirs}/{_LEAF[leaf]}".lstrip("/")
    return names


def _places(block: nn.Module) -> Iterable[tuple[str, str]]:
    """Pairs of (our submodule, official submodule) for every layer with parameters."""
    for kind, places in _PLACES.items():
        if isinstance(block, kind):
            return places(block)
    raise TypeError(
        f"load_jax supports {', '.join(kind.__name__ for kind in _PLACES)}, not "
        f"{type(block).__name__}"
    )


def _layers(ours: str, count: int, theirs: str, norm: str) -> list[tuple[str, str]]:
    """Pairs for a stack of layers; `theirs` and `norm` are official names with {} for the index."""
    pairs = []
    for i in range(count):
        pairs.append((f"{ours}.{i}.linear".lstrip("."), theirs.format(i)))
        pairs.append((f"{ours}.{i}.norm".lstrip("."), norm.format(i)))
    return pairs


def _mlp(ours: str, mlp: Any, theirs: str = "mlp/") -> list[tuple[str, str]]:
    return _layers(ours, len(mlp), theirs + "linear{}", theirs + "norm{}")


def _core(block: BlockGRU) -> list[tuple[str, str]]:
    pairs = []
    for i, part in enumerate(("deter", "stoch", "action")):
        pairs.append((f"from_{part}.linear", f"dynin{i}"))
        pairs.append((f"from_{part}.norm", f"dynin{i}norm"))
    for i in range(len(block.hidden)):
        pairs.append((f"hidden.{i}", f"dynhid{i}"))
        pairs.append((f"norms.{i}", f"dynhid{i}norm"))
    return [*pairs, ("gates", "dyngru")]


def _rssm(block: RSSM) -> list[tuple[str, str]]:
    core, latent = block.core, block.latent
    if not (isinstance(core, BlockGRU) and isinstance(latent, CategoricalLatent)):
        raise TypeError(
            f"load_jax supports an RSSM of BlockGRU and CategoricalLatent (dreamer_rssm), not of "
            f"{type(core).__name__} and {type(latent).__name__}"
        )
    pairs = [(f"core.{ours}", theirs) for ours, theirs in _core(core)]
    prior, posterior = latent.prior_mlp, latent.posterior_mlp
    pairs += _layers("latent.prior_mlp", len(prior), "prior{}", "prior{}norm")
    pairs += _layers("latent.posterior_mlp", len(posterior), "obs{}", "obs{}norm")
    return [*pairs, ("latent.prior_out", "priorlogit"), ("latent.posterior_out", "obslogit")]


def _convs(numbers: Iterable[int], name: str) -> list[tuple[str, str]]:
    """Pairs for a stack of convolutions; `numbers` are the official numbers in our order."""
    pairs = []
    for i, number in enumerate(numbers):
        pairs.append((f"convs.{i}", f"{name}{number}"))
        pairs.append((f"norms.{i}.norm", f"{name}{number}norm"))
    return pairs


def _image_decoder(block: ImageDecoder) -> list[tuple[str, str]]:
    first = [
        ("from_deter", "sp0"),
        ("from_stoch.0.linear", "sp1"),
        ("from_stoch.0.norm", "sp1norm"),
        ("from_stoch.1", "sp2"),
        ("norm.norm", "spnorm"),
        ("out", "imgout"),
    ]
    return first + _convs(reversed(range(len(block.convs))), "conv")


def _vector_decoder(block: VectorDecoder) -> list[tuple[str, str]]:
    pairs = _mlp("mlp", block.mlp)
    for i, (key, space) in enumerate(block.spaces.items()):
        kind = "pred" if isinstance(space, Continuous) else "logits"
        pairs.append((f"outs.{i}", f"vec/{key}/{kind}"))
    return pairs


def _actor(block: ActorHead) -> list[tuple[str, str]]:
    pairs = _mlp("mlp", block.mlp)
    for i, (key, space) in enumerate(block.actions.items()):
        kinds = ("mean", "stddev") if isinstance(space, Continuous) else ("logits",)
        pairs += [(f"outs.{i}.{j}", f"head/{key}/{kind}") for j, kind in enumerate(kinds)]
    return pairs


def _within(block: nn.Module, names: Iterable[str]) -> list[tuple[str, str]]:
    return [
        (f"{name}.{ours}", theirs)
        for name in names
        if getattr(block, name) is not None
        for ours, theirs in _places(getattr(block, name))
    ]


_PLACES: dict[type[nn.Module], Any] = {
    RSSM: _rssm,
    BlockGRU: _core,
    ImageEncoder: lambda block: _convs(range(len(block.convs)), "cnn"),
    VectorEncoder: lambda block: _layers("mlp", len(block.mlp), "mlp{}", "mlp{}norm"),
    MultiEncoder: lambda block: _within(block, ("image", "vector")),
    ImageDecoder: _image_decoder,
    VectorDecoder: _vector_decoder,
    MultiDecoder: lambda block: _within(block, ("image", "vector")),
    TwoHotHead: lambda block: [*_mlp("mlp", block.mlp), ("out", "head/logits")],
    BinaryHead: lambda block: [*_mlp("mlp", block.mlp), ("out", "head/logit")],
    OneHotHead: lambda block: [*_mlp("mlp", block.mlp), ("out", "head/logits")],
    NormalHead: lambda block: [
        *_mlp("mlp", block.mlp),
        ("mean", "head/mean"),
        ("std", "head/stddev"),
    ],
    ActorHead: _actor,
    MLP: lambda block: _mlp("", block, ""),
    Linear: lambda _: [("", "")],
    BlockLinear: lambda _: [("", "")],
    Conv2d: lambda _: [("", "")],
    RMSNorm: lambda _: [("", "")],
}

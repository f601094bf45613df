"""Group e: layers and their initialisers, encoders and decoders."""

from collections.abc import Iterator
from math import prod, sqrt

import torch
from torch import Tensor, nn

from parity.arrays import Arrays, count, image_sizes, observation_spaces
from parity.record import Check, Record
from worldblocks.decoders import ImageDecoder, MultiDecoder, VectorDecoder, target
from worldblocks.distributions import OneHot
from worldblocks.encoders import ImageEncoder, MultiEncoder, VectorEncoder
from worldblocks.interop import load_jax
from worldblocks.layers import (
    MLP,
    BlockLinear,
    Conv2d,
    ConvTranspose2d,
    Linear,
    RMSNorm,
)
from worldblocks.rssm import State
from worldblocks.spaces import Image


def layer_checks(file: Arrays) -> Iterator[Check]:
    """One row for the forward passes of all layers."""

    def run(record: Record) -> None:
        for case in file.parts():
            arrays = file.at(case)
            x, out = arrays.tensor("x"), arrays.tensor("out")
            block, scope = _layer(arrays, x, out)
            load_jax(block, arrays.at("params"), scope=scope)
            image = isinstance(block, Conv2d)
            ours = block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if image else block(x)
            record.value(f"{case}.out", ours, out)

    what = "convolutions, transposed convolution, block-linear, RMSNorm, MLP"
    yield Check("e", file.name, what, run)


def _layer(arrays: Arrays, x: Tensor, out: Tensor) -> tuple[nn.Module, str]:
    """The layer with the recorded parameters, and their scope."""
    params = arrays.at("params")
    scope = next(iter(params)).split("/")[0]
    wide, layers = x.shape[-1], count(params, f"{scope}/linear{{}}/")
    if layers:
        return MLP(wide, units=out.shape[-1], layers=layers), scope
    if f"{scope}/scale" in params:
        return RMSNorm(wide), scope
    shape = params[f"{scope}/kernel"].shape
    if len(shape) == 4:
        here, there = x.shape[1], out.shape[1]
        if there > here:
            return ConvTranspose2d(wide, shape[3], shape[0], stride=there // here), scope
        return Conv2d(wide, shape[3], shape[0], stride=-(-here // there)), scope
    if len(shape) == 3:
        return BlockLinear(wide, out.shape[-1], blocks=shape[0]), scope
    return Linear(wide, out.shape[-1]), scope


def init_checks(file: Arrays) -> Iterator[Check]:
    """Statistics of fresh kernels."""
    what = "initialisers: std and largest weight of fresh kernels"
    yield Check("e", file.name, what, lambda r: _init(r, file))


def _init(record: Record, file: Arrays) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for case in file.parts():
            arrays = file.at(case)
            kernel, size = _fresh(arrays, case), prod(arrays["shape"].tolist())
            # The recorded std of a small kernel has a sampling error, allowed here up to 4 standard
            # errors; its largest weight lies this far below the bound once in 10,000 draws.
            deviation, largest = max(0.01, 2.4 / sqrt(size)), max(0.01, 41 / size)
            record.value(f"{case}.std", kernel.std(), arrays["std"], deviation)
            record.value(f"{case}.absmax", kernel.abs().max(), arrays["absmax"], largest)


def _fresh(arrays: Arrays, case: str) -> Tensor:
    """At least a million initial weights of layers of this shape."""
    shape = arrays["shape"].tolist()
    digits = case.partition("outscale")[2]
    outscale = float(f"{digits[0]}.{digits[1:]}") if digits else 1.0
    kernels = []
    for _ in range(-(-(2**20) // prod(shape))):
        if len(shape) == 4:
            layer: nn.Module = Conv2d(shape[2], shape[3], shape[0], outscale=outscale)
        elif len(shape) == 3:
            wide = (shape[0] * shape[1], shape[0] * shape[2])
            layer = BlockLinear(*wide, blocks=shape[0], outscale=outscale)
        else:
            layer = Linear(*shape, outscale=outscale)
        kernels.append(layer.get_parameter("weight").detach().flatten())
    return torch.cat(kernels)


def encoder_checks(file: Arrays) -> Iterator[Check]:
    """Tokens and reconstructions with their losses; the gradients of both."""
    what = "encoder, decoder: tokens, reconstructions, losses; gradients"
    yield Check("e", file.name, what, lambda r: _encoder(r, file))


def _encoder(record: Record, file: Arrays) -> None:
    encoder, decoder = build(file)
    load_jax(encoder, file.at("enc_params"), scope="enc")
    load_jax(decoder, file.at("dec_params"), scope="dec")
    obs = {key: file.tensor(f"obs.{key}") for key in file.at("obs")}
    tokens = encoder(obs)
    record.value("tokens", tokens, file["tokens"])
    loss = tokens.square().mean()
    record.value("enc_loss", loss, file["enc_loss"])
    loss.backward()
    record.block("enc_grads", encoder, file.at("enc_grads"), "enc")

    stoch = file.tensor("feat.stoch")
    outputs, total = decoder(State(file.tensor("feat.deter"), stoch, stoch)), torch.zeros(())
    for key, output in outputs.items():
        arrays, path = file.at(f"recon.{key}"), f"recon.{key}"
        nll = output.nll(target(output, obs[key]))
        total = total + nll.mean()
        record.value(f"{path}.loss", nll, arrays["loss"])
        if isinstance(output, OneHot):
            record.value(f"{path}.pred", output.mode.argmax(-1), arrays["pred"])
            theirs = arrays.tensor("logits").log_softmax(-1)  # ours are log-probabilities
            record.value(f"{path}.logits", output.logits, theirs)
        else:
            record.value(f"{path}.pred", output.mean, arrays["pred"])
    record.value("dec_loss", total, file["dec_loss"])
    total.backward()
    record.block("dec_grads", decoder, file.at("dec_grads"), "dec")


def build(file: Arrays) -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder with the recorded parameters."""
    enc, dec = file.at("enc_params"), file.at("dec_params")
    spaces = observation_spaces(file.at("obs"), dec, "dec", batch_axes=2)
    images = {key: space for key, space in spaces.items() if isinstance(space, Image)}
    vectors = {key: space for key, space in spaces.items() if key not in images}
    widths = {
        "deter": file["feat.deter"].shape[-1],
        "stoch": file["feat.stoch"].shape[-2] * file["feat.stoch"].shape[-1],
    }
    image_encoder = vector_encoder = image_decoder = vector_decoder = None
    if images:
        sizes = image_sizes(dec, "dec", spaces, strided="strided" in file.name)
        image_encoder = ImageEncoder(**sizes)
        image_decoder = ImageDecoder(
            **widths,
            **sizes,
            units=dec["dec/sp1/bias"].size // 2,
            blocks=dec["dec/sp0/kernel"].shape[0],
        )
    if vectors:
        units, layers = enc["enc/mlp0/bias"].size, count(enc, "enc/mlp{}/")
        vector_encoder = VectorEncoder(vectors, units=units, layers=layers)
        units, layers = dec["dec/mlp/linear0/bias"].size, count(dec, "dec/mlp/linear{}/")
        vector_decoder = VectorDecoder(vectors, **widths, units=units, layers=layers)
    return (
        MultiEncoder(image=image_encoder, vector=vector_encoder, image_keys=list(images)),
        MultiDecoder(spaces, image=image_decoder, vector=vector_decoder),
    )

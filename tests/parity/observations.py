"""Group e, the large parts: encoders and decoders."""

from collections.abc import Iterator

import torch
from torch import nn

from parity.arrays import Arrays
from parity.record import Check, Record
from parity.sizes import count, image_sizes, observation_spaces
from worldblocks.decoders import ImageDecoder, MultiDecoder, VectorDecoder, target
from worldblocks.distributions import OneHot
from worldblocks.encoders import ImageEncoder, MultiEncoder, VectorEncoder
from worldblocks.interop import load_jax
from worldblocks.rssm import State
from worldblocks.spaces import Image


def checks(file: Arrays) -> Iterator[Check]:
    """Tokens and reconstructions with their losses; the gradients of both."""
    what = "encoder, decoder: tokens, reconstructions, losses; gradients"
    yield Check("e", file.name, what, lambda r: _run(r, file))


def _run(record: Record, file: Arrays) -> None:
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
    """The encoder and the decoder whose parameters these are."""
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

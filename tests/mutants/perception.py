"""Faults of encoders, decoders and heads."""

import torch
from torch import nn

from worldblocks.decoders import dreamer_decoder
from worldblocks.distributions import MSE, ImageMSE, SymlogMSE, TwoHot
from worldblocks.encoders import dreamer_encoder
from worldblocks.heads import TwoHotHead
from worldblocks.spaces import Continuous, Discrete, Image
from worldblocks.transforms import symlog

from .mutant import mutant

SPACES = {"image": Image(48, 48, 3), "speed": Continuous((2,)), "gear": Discrete(3)}
FEATURE = 11
STATE = {"deter": 16, "stoch": 6}


def encoder():
    return dreamer_encoder(SPACES, depth=2, units=10)


def decoder():
    return dreamer_decoder(SPACES, **STATE, depth=2, units=10)


class AroundEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = encoder()
        self.embed_dim = self.inner.embed_dim

    def forward(self, obs):
        return self.inner(obs)


@mutant("encoder", "pixels are scaled to [0, 1] twice")
class image_scaled_twice(AroundEncoder):
    def forward(self, obs):
        return self.inner({**obs, "image": obs["image"] // 255})


@mutant("encoder", "pixels are not scaled to [0, 1]: nearly all activations saturate")
class bright_pixels_alone(AroundEncoder):
    def forward(self, obs):
        return self.inner({**obs, "image": (obs["image"] > 250).to(torch.uint8) * 255})


@mutant("encoder", "a key of the observation is not used")
class key_not_used(AroundEncoder):
    def forward(self, obs):
        return self.inner({**obs, "gear": torch.zeros_like(obs["gear"])})


@mutant("encoder", "time and batch are mixed up on the way through the convolutions")
class encoder_mixes_the_batch(AroundEncoder):
    def forward(self, obs):
        out = self.inner(obs)
        if out.ndim < 3:
            return out
        return out.transpose(0, 1).reshape(out.shape)


@mutant("encoder", "the lower half of the image is cut off")
class half_an_image(AroundEncoder):
    def forward(self, obs):
        image = obs["image"].clone()
        image[..., 24:, :, :] = 0
        return self.inner({**obs, "image": image})


@mutant("encoder", "the embedding is normalised over the batch")
class encoder_batch_norm(AroundEncoder):
    def forward(self, obs):
        out = self.inner(obs)
        flat = out.flatten(0, -2)
        return out - flat.mean(0)


@mutant("encoder", "the convolutions are outside of the graph")
class encoder_without_gradient(AroundEncoder):
    def forward(self, obs):
        vector = self.inner.vector({key: obs[key] for key in self.inner.vector.spaces})
        with torch.no_grad():
            image = self.inner.image(obs["image"])
        return torch.cat([vector, image], -1)


@mutant("encoder", "the image is inverted in place: the caller's observation changes")
class observation_changed_in_place(AroundEncoder):
    def forward(self, obs):
        obs["image"].bitwise_not_()
        return self.inner(obs)


@mutant("encoder", "dropout is on in evaluation too")
class dropout_left_on(AroundEncoder):
    def forward(self, obs):
        return nn.functional.dropout(self.inner(obs), 0.2, training=True)


class AroundDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = decoder()

    def forward(self, state):
        return self.inner(state)


@mutant("decoder", "the decoder reads the stochastic part alone")
class decoder_without_deter(AroundDecoder):
    def forward(self, state):
        return self.inner(state._replace(deter=torch.zeros_like(state.deter)))


@mutant("decoder", "the decoder trains nothing below it: its input is detached")
class decoder_detached(AroundDecoder):
    def forward(self, state):
        return self.inner(state.detach())


class VectorReversedOutput(SymlogMSE):
    def nll(self, target):
        return super().nll(target.flip(-1))


@mutant("decoder", "the entries of a vector are read in the reverse order")
class vector_reversed(AroundDecoder):
    def forward(self, state):
        out = self.inner(state)
        out["speed"] = VectorReversedOutput(out["speed"].mean, event=1)
        return out


class DecoderScalesTwiceOutput(ImageMSE):
    def nll(self, target):
        return MSE.nll(self, target.float() / 255 / 255)


@mutant("decoder", "pixels of the target are scaled twice")
class decoder_scales_twice(AroundDecoder):
    def forward(self, state):
        out = self.inner(state)
        out["image"] = DecoderScalesTwiceOutput(out["image"].mean)
        return out


class ImageTransposedOutput(ImageMSE):
    def nll(self, target):
        return ImageMSE.nll(self, target.transpose(-3, -2))


@mutant("decoder", "the decoder's image is transposed: height and width have changed places")
class image_transposed(AroundDecoder):
    def forward(self, state):
        out = self.inner(state)
        out["image"] = ImageTransposedOutput(out["image"].mean)
        return out


class SymlogForgottenOutput(SymlogMSE):
    def nll(self, target):
        return MSE.nll(self, target)


@mutant("decoder", "vectors are read in symlog space, and their targets are not brought there")
class symlog_forgotten(AroundDecoder):
    def forward(self, state):
        out = self.inner(state)
        out["speed"] = SymlogForgottenOutput(out["speed"].mean, event=1)
        return out


@mutant("decoder", "one key is missing")
class key_not_decoded(AroundDecoder):
    def forward(self, state):
        out = self.inner(state)
        del out["gear"]
        return out


class HeadInTheWrongSpaceOutput(TwoHot):
    def log_prob(self, x):
        return super().log_prob(symlog(x))


@mutant("head", "the head encodes its targets in symlog space, its bins are of raw numbers")
class head_in_the_wrong_space(TwoHotHead):
    def forward(self, feature):
        out = super().forward(feature)
        return HeadInTheWrongSpaceOutput(out.logits, self.bins)


@mutant("head", "the head trains nothing below it")
class head_detached(TwoHotHead):
    def forward(self, feature):
        return super().forward(feature.detach())


@mutant("head", "features are normalised over the batch")
class head_batch_norm(TwoHotHead):
    def forward(self, feature):
        return super().forward(feature - feature.flatten(0, -2).mean(0))


@mutant("head", "the bins are not moved with the module: they are a plain tensor")
class bins_not_a_buffer(TwoHotHead):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        bins = self.bins
        del self.bins
        self.__dict__["bins"] = bins


@mutant("head", "batch and time have changed places in the prediction")
class head_mixes_axes(TwoHotHead):
    def forward(self, feature):
        logits = self.out(self.mlp(feature))
        if logits.ndim == 3:
            logits = logits.transpose(0, 1).reshape(logits.shape)
        return TwoHot(logits, self.bins)


@mutant("head", "the last layer's kernel is not trained")
class last_layer_not_trained(TwoHotHead):
    def forward(self, feature):
        hidden = self.mlp(feature)
        out = nn.functional.linear(hidden, self.out.weight.detach(), self.out.bias)
        return TwoHot(out, self.bins)

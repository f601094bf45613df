"""The two halves of a variational autoencoder, alone and in a world model."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from worldblocks.decoders import GaussianDecoder
from worldblocks.distributions import Normal, SigmoidImageL1, SigmoidImageMSE, modes
from worldblocks.encoders import GaussianEncoder, ImageEncoder, MultiEncoder, dreamer_encoder
from worldblocks.losses import gaussian_kl
from worldblocks.spaces import Continuous, Image


def pixels(*batch, size=48, channels=3):
    return torch.randint(256, (*batch, size, size, channels), dtype=torch.uint8)


def encoder(**options):
    sizes = {"channels": 3, "size": 48, "latent": 7, "depth": 2}
    return GaussianEncoder(**{**sizes, **options})


def decoder(**options):
    sizes = {"channels": 3, "size": 48, "latent": 7, "depth": 2}
    return GaussianDecoder(**{**sizes, **options})


def kl(posterior):
    one = torch.ones_like(posterior.mean)
    return gaussian_kl(posterior.mean, posterior.std, 0 * one, one).sum(-1)


# ------------------------------------------------------------------------------------------ encoder


def test_mean_and_deviation_are_two_maps_of_the_image_encoder():
    made, image = encoder(), pixels(2)
    hidden = made.image(image)
    posterior = made.posterior(image)
    assert isinstance(made.image, ImageEncoder)
    assert_close(posterior.mean, made.mean(hidden))
    assert_close(posterior.std.square().log(), made.log_variance(hidden), rtol=1e-4, atol=1e-5)


def test_by_hand():
    """Kernels of 0, biases 1 and ln 4: σ = 2, and KL = -ln 2 + (4 + 1) / 2 - 1/2 per entry."""
    made = encoder()
    for part, bias in ((made.mean, 1.0), (made.log_variance, math.log(4))):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.constant_(part.bias, bias)
    posterior = made.posterior(pixels(5))
    assert_close(posterior.mean, torch.ones(5, 7))
    assert_close(posterior.std, torch.full((5, 7), 2.0))
    assert_close(kl(posterior), torch.full((5,), 7 * (2 - math.log(2))))
    assert_close(posterior.sample(noise=torch.full((5, 7), 0.5)), torch.full((5, 7), 2.0))


@pytest.mark.parametrize("batch", [(), (2,), (2, 5), (0,)])
@pytest.mark.parametrize(("size", "channels"), [(48, 1), (64, 3)])
def test_any_batch_axes_and_images(batch, size, channels):
    made = encoder(size=size, channels=channels)
    image = pixels(*batch, size=size, channels=channels)
    assert made(image).shape == (*batch, made.embed_dim)
    assert made.posterior(image).log_prob(made(image)).shape == batch
    back = decoder(size=size, channels=channels)(made(image))
    assert back.mean.shape == image.shape
    assert back.nll(image).shape == batch


def test_the_embedding_is_the_mean_or_a_sample_which_is_the_mean_inside_modes():
    made, image = encoder(), pixels(5)
    mean = made.posterior(image).mean
    assert_close(made(image), mean)
    made.sampled = True
    assert not torch.equal(made(image), made(image))
    with modes():
        assert_close(made(image), mean)


def test_samples_have_the_moments_of_the_posterior():
    one = encoder().posterior(pixels(1))
    many = Normal(one.mean.expand(4000, 7), one.std.expand(4000, 7), event=1)
    assert_close(many.sample().mean(0), one.mean[0], rtol=0, atol=0.15)
    assert_close(many.sample().std(0), one.std[0], rtol=0.1, atol=0)


def test_samples_carry_the_gradient_to_both_maps():
    made = encoder(sampled=True)
    made(pixels(2)).sum().backward()
    assert all(p.grad.ne(0).any() for p in made.parameters())


# ------------------------------------------------------------------------------------------ decoder


def slow_decode(made, latent):
    """Stage by stage: linear map, RMSNorm, SiLU; then nearest ×2, 5×5 convolution, norm, SiLU."""

    def activate(x, scale):
        x = x / (x.square().mean(1, keepdim=True) + 1e-4).sqrt() * scale[:, None, None]
        return x * x.sigmoid()

    x = latent @ made.first.weight.T + made.first.bias
    x = x.reshape(-1, 3, 3, 8).permute(0, 3, 1, 2)
    x = activate(x, made.norm.norm.scale)
    for conv, norm in [*zip(made.convs, made.norms, strict=True), (made.out, None)]:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=2)
        x = activate(x, norm.norm.scale) if norm else x
    return x.sigmoid().permute(0, 2, 3, 1)


def test_it_is_the_specification():
    made, latent = decoder(), torch.randn(2, 7)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert_close(made(latent).mean, slow_decode(made, latent), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("output", [SigmoidImageMSE, SigmoidImageL1])
def test_the_error_is_the_one_that_was_asked_for(output):
    made, image = decoder(output=output), pixels(2)
    out = made(torch.randn(2, 7))
    error = (out.mean.double() - image.double() / 255).abs()
    error = error if output is SigmoidImageL1 else error.square()
    assert type(out) is output
    assert_close(out.nll(image).double(), error.sum((1, 2, 3)), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 255))
def test_absolute_error_by_hand(level):
    """Logits of 0 are pixels of 1/2."""
    image = torch.full((2, 3, 5, 1), level, dtype=torch.uint8)
    output = SigmoidImageL1(torch.zeros(2, 3, 5, 1))
    assert_close(output.nll(image), torch.full((2,), 15 * abs(0.5 - level / 255)))
    assert_close(output[1:].nll(image[1:]), output.nll(image)[1:])


# -------------------------------------------------------------------------------------- both halves


def test_the_loss_of_a_batch_reaches_every_parameter_and_falls():
    torch.manual_seed(2)
    halves = torch.nn.ModuleList([encoder(channels=1), decoder(channels=1)])
    image = pixels(1, channels=1)[:, ::24, ::24].repeat_interleave(24, 1).repeat_interleave(24, 2)
    optimizer = torch.optim.Adam(halves.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        posterior = halves[0].posterior(image)
        loss = (halves[1](posterior.sample()).nll(image) + kl(posterior)).mean()
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(p.grad.ne(0).any() for p in halves.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_it_stands_in_front_of_a_world_model():
    """In place of the `ImageEncoder` of `dreamer_encoder`, together with a vector."""
    spaces = {"view": Image(48, 48, 3), "speed": Continuous()}
    joined = dreamer_encoder(spaces, depth=2, units=5)
    made = MultiEncoder(image=encoder(), vector=joined.vector, image_keys=["view"])
    assert made.embed_dim == 5 + 7
    obs = {"view": pixels(2, 4), "speed": torch.randn(2, 4)}
    assert_close(made(obs)[..., 5:], made.image.posterior(obs["view"]).mean)


def test_capture(same_when_compiled):
    # With few channels the products are summed in another order, see test_layers.py.
    small = {"channels": 5, "size": 12, "mults": (2, 3)}
    first, second = encoder(**small), decoder(**small)
    both, image = torch.nn.ModuleList([first, second]), pixels(2, size=12, channels=5)

    def function(noise):
        posterior = first.posterior(image)
        return second(posterior.sample(noise)).nll(image), kl(posterior)

    same_when_compiled(function, torch.randn(2, 7), module=both, by_entry=False)  # convolutions


def test_under_autocast_it_stays_near_float32():
    made, back, image = encoder(), decoder(), pixels(2)
    exact = back(made(image)).mean
    with torch.autocast("cpu", torch.bfloat16):
        posterior = made.posterior(image)
        cast = back(posterior.mean)
    assert {posterior.mean.dtype, posterior.std.dtype, cast.mean.dtype} == {torch.float32}
    assert_close(cast.mean, exact, rtol=0, atol=0.05)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"GaussianEncoder needs latent >= 1, got latent=0"):
        encoder(latent=0)
    for make in (encoder, decoder):
        with pytest.raises(ValueError, match="an image of 7×7 pixels; its sides may have 8 to 512"):
            make(size=7)
    with pytest.raises(TypeError, match=r"an image must be uint8 in 0…255, got torch\.float32"):
        encoder()(torch.zeros(2, 48, 48, 3))
    with pytest.raises(
        TypeError, match=r"an image target must be uint8 in 0…255, got torch\.float32"
    ):
        decoder(output=SigmoidImageL1)(torch.zeros(2, 7)).nll(torch.zeros(2, 48, 48, 3))
    with pytest.raises(ValueError, match=r"SigmoidImageL1 of shape \(2, 48, 48, 3\) was given a v"):
        decoder(output=SigmoidImageL1)(torch.zeros(2, 7)).nll(pixels(3))
    with pytest.raises(
        ValueError, match=r"input of Linear should be 7 wide \(last axis\), got shape \(2, 5\)"
    ):
        decoder()(torch.zeros(2, 5))
    with pytest.raises(
        TypeCheckError, match=r"latent should be Float.*got int64\[2, 7\]; use latent.float"
    ):
        decoder()(torch.zeros(2, 7, dtype=torch.int64))

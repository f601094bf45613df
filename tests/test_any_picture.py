"""Encoder and decoder of every size, alone and of two cameras, with default arguments."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worldblocks.decoders import GaussianDecoder, dreamer_decoder
from worldblocks.encoders import GaussianEncoder, dreamer_encoder
from worldblocks.rssm import State
from worldblocks.spaces import Grid, Image

SIDES, SHORT = st.integers(8, 512), st.integers(8, 24)
IMAGES = st.one_of(
    st.builds(Image, SIDES, SHORT, st.integers(1, 4)),
    st.builds(Image, SHORT, SIDES, st.integers(1, 4)),
)
GRIDS = st.builds(Grid, *[st.integers(1, 40)] * 2, st.integers(1, 4), st.integers(1, 5))


def observed(space, batch):
    most = 256 if isinstance(space, Image) else space.classes
    return torch.randint(most, (*batch, *space.shape), dtype=torch.uint8)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.one_of(IMAGES, GRIDS), min_size=1, max_size=2),
    st.sampled_from([(), (2,), (2, 1)]),
    st.booleans(),
    st.booleans(),
)
@example([Image(8, 512, 3)], (), False, False)
@example([Image(84, 84, 3), Image(84, 84, 1)], (1, 2), False, False)
@example([Image(96, 64, 3), Image(32, 32, 3)], (2,), False, True)
def test_any_picture(spaces, batch, strided, outer):
    """It is built, has the right shapes and finite gradients; the loss has real pixels alone."""
    spaces = dict(zip("ab", spaces, strict=False))
    obs = {key: observed(space, batch) for key, space in spaces.items()}
    options = {"depth": 2, "units": 5, "strided": strided, "outer": outer}
    encoder = dreamer_encoder(spaces, **options)
    decoder = dreamer_decoder(spaces, deter=8, stoch=6, **options)
    embed = encoder(obs)
    assert embed.shape == (*batch, encoder.embed_dim)
    deter, stoch = torch.randn(*batch, 8), torch.randn(*batch, 2, 3)
    out = decoder(State(deter.requires_grad_(), stoch.requires_grad_(), stoch))
    loss = out.nll(obs)
    real = torch.zeros(batch, dtype=torch.float64)
    for key, space in spaces.items():
        if isinstance(space, Image):
            assert out[key].mean.shape == (*batch, *space.shape)
            errors = (out[key].mean.double() - obs[key].double() / 255).square()
        else:
            assert out[key].mean.shape == (*batch, *space.shape, space.classes)
            errors = -out[key].logits.double().gather(-1, obs[key].long().unsqueeze(-1))
        real = real + errors.flatten(len(batch)).sum(-1)
    # A float32 sum over up to 10⁵ pixels.
    torch.testing.assert_close(loss.double(), real, rtol=1e-5, atol=1e-5)
    (loss.sum() + embed.square().sum()).backward()
    only_one_class = all(isinstance(s, Grid) and s.classes == 1 for s in spaces.values())
    for part in (encoder, decoder):
        grads = [parameter.grad for parameter in part.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert deter.grad.ne(0).any() or only_one_class


def test_every_side_passes_through_the_default_arguments():
    """As height or as width, beside a short one."""
    deter, stoch = torch.zeros(8), torch.zeros(2, 3)
    with torch.no_grad():
        for side in range(8, 513):
            short = 8 + side % 5
            image = Image(side, short, 1) if side % 2 else Image(short, side, 1)
            encoder = dreamer_encoder({"a": image}, depth=2, units=5)
            decoder = dreamer_decoder({"a": image}, deter=8, stoch=6, depth=2, units=5)
            embed = encoder({"a": torch.zeros(image.shape, dtype=torch.uint8)})
            assert embed.shape == (encoder.embed_dim,)
            assert decoder(State(deter, stoch, stoch))["a"].mean.shape == image.shape


@pytest.mark.parametrize("size", [28, (37, 51), (210, 160), 300])
def test_an_autoencoder_of_any_size(size):
    encoder = GaussianEncoder(channels=3, size=size, latent=5, depth=2)
    decoder = GaussianDecoder(latent=5, channels=3, size=size, depth=2)
    height, width = size if isinstance(size, tuple) else (size, size)
    image = torch.randint(256, (2, height, width, 3), dtype=torch.uint8)
    out = decoder(encoder(image))
    assert out.mean.shape == image.shape
    errors = (out.mean.double() - image.double() / 255).square().sum((1, 2, 3))
    torch.testing.assert_close(out.nll(image).double(), errors, rtol=1e-5, atol=0)


def test_padding_is_zero_after_scaling_and_at_the_end():
    """An image that is padded by hand has the same embedding."""
    encoder = dreamer_encoder({"a": Image(37, 51, 1)}, depth=2, units=5).image
    whole = dreamer_encoder({"a": Image(48, 64, 1)}, depth=2, units=5).image
    whole.load_state_dict(encoder.state_dict())
    x = torch.rand(2, 1, 37, 51) - 0.5
    padded = torch.zeros(2, 1, 48, 64)
    padded[:, :, :37, :51] = x
    assert torch.equal(encoder.features(x), whole.features(padded))

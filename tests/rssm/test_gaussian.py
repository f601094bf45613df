"""The Gaussian latent."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks.distributions import modes
from worldblocks.rssm import GaussianLatent

DETER, EMBED, SIZE, HIDDEN = 12, 11, 5, 7


def latent(**options):
    module = GaussianLatent(deter=DETER, embed_dim=EMBED, size=SIZE, hidden=HIDDEN, **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def test_a_network_of_zeros_by_hand():
    """Mean 0, deviation softplus(0) + 0.1 = ln 2 + 0.1."""
    module = latent()
    for parameter in module.parameters():
        parameter.data.zero_()
    deter = torch.randn(2, DETER)
    for mean, std in (
        module.prior(deter),
        module.posterior(deter, module.project(torch.randn(2, EMBED))),
    ):
        assert mean.eq(0).all()
        torch.testing.assert_close(std, torch.full((2, SIZE), math.log(2) + 0.1))


def test_the_first_half_is_the_mean_and_the_deviation_has_a_floor():
    module = latent(min_std=0.3)
    module.prior_out.bias.data = torch.cat([torch.arange(5.0), torch.full((5,), -99.0)])
    module.prior_out.weight.data.zero_()
    mean, std = module.prior(torch.randn(2, DETER))
    assert mean.tolist() == [[0, 1, 2, 3, 4]] * 2
    torch.testing.assert_close(std, torch.full((2, SIZE), 0.3))


@pytest.mark.parametrize("options", [{}, {"absolute": True}, {"posterior_layers": 2}])
def test_the_posterior_in_two_halves_is_one_network(options):
    module = latent(**options)
    deter, embed = torch.randn(2, 3, DETER), torch.randn(2, 3, EMBED)
    both = embed if "absolute" in options else torch.cat([deter, embed], -1)
    mean, raw = module.posterior_out(module.posterior_mlp(both)).chunk(2, -1)
    ours = module.posterior(deter, module.project(embed))
    expected = mean, 0.1 + torch.nn.functional.softplus(raw)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_an_absolute_posterior_does_not_see_the_state():
    module, projected = latent(absolute=True), torch.randn(2, HIDDEN)
    for ours, expected in zip(
        module.posterior(None, projected),
        module.posterior(torch.randn(2, DETER), projected),
        strict=True,
    ):
        assert torch.equal(ours, expected)


def test_samples_have_one_door():
    module = latent()
    mean, std, noise = torch.randn(2, SIZE), torch.rand(2, SIZE), torch.randn(2, SIZE)
    torch.testing.assert_close(module.distribution((mean, std)).sample(noise), mean + std * noise)
    with modes():
        assert torch.equal(module.distribution((mean, std)).sample(noise), mean)


def test_noise_is_standard_normal_for_each_number():
    noise = latent().noise(torch.zeros(40, 50, dtype=torch.bool))
    assert noise.shape == (40, 50, SIZE)
    assert noise.mean().abs() < 0.05
    assert (noise.std() - 1).abs() < 0.05


def test_its_parameters_are_a_mean_and_a_deviation():
    module = latent()
    parameters = module.prior(torch.randn(2, DETER))
    drawn = module.distribution(parameters)
    assert (module.shape, drawn.event, drawn.entropy().shape) == ((SIZE,), 1, (2,))
    assert torch.equal(drawn.mean, parameters[0])
    assert torch.equal(drawn.std, parameters[1])


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (2,), (2, 3)]), st.booleans())
def test_unpacking_undoes_packing_exactly(seed, batch, low):
    generator = torch.Generator().manual_seed(seed)
    stoch = torch.randn(*batch, SIZE, generator=generator)
    stoch = stoch.bfloat16() if low else stoch
    back = latent().unpack(latent().pack(stoch), torch.zeros(()))
    assert back.dtype == stoch.dtype
    assert torch.equal(back, stoch)


@pytest.mark.parametrize("low", [0.0, -1.0, math.nan])
def test_a_deviation_has_a_positive_floor(low):
    with pytest.raises(ValueError, match=f"GaussianLatent needs min_std > 0, got {low}"):
        latent(min_std=low)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"embed should be 11 wide .*got shape \(2, 12\)"):
        latent().project(torch.zeros(2, DETER))
    with pytest.raises(TypeCheckError, match=r"stoch should be Float.*got int64\[2, 5\]"):
        latent().pack(torch.zeros(2, SIZE, dtype=torch.int64))


@pytest.mark.parametrize("absolute", [False, True])
def test_capture(same_when_compiled, absolute):
    module = latent(absolute=absolute)

    def both(deter, embed, noise):
        mean, std = module.posterior(deter, module.project(embed))
        return module.prior(deter), module.distribution((mean, std)).sample(noise)

    rows = torch.randn(2, DETER), torch.randn(2, EMBED), torch.randn(2, SIZE)
    same_when_compiled(both, *rows, module=module)


def test_deviations_are_computed_in_float32():
    module, deter = latent(), torch.randn(2, DETER)
    with torch.autocast("cpu", torch.bfloat16):
        mean, std = module.prior(deter)
    assert (mean.dtype, std.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(std, module.prior(deter)[1], rtol=0.05, atol=0.05)

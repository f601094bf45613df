import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks.rssm import CategoricalLatent

DETER, EMBED, GROUPS, CLASSES, HIDDEN = 12, 11, 5, 4, 7


def latent(**options):
    sizes = {"deter": DETER, "embed_dim": EMBED, "groups": GROUPS, "classes": CLASSES}
    module = CategoricalLatent(**sizes, hidden=HIDDEN, **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def test_the_last_kernels_start_at_full_scale():
    def first(**options):
        torch.manual_seed(3)
        return CategoricalLatent(deter=2, embed_dim=3, groups=5, classes=4, hidden=7, **options)

    for name in ("prior_out", "posterior_out"):
        plain, half = (getattr(first(**given), name).weight for given in ({}, {"outscale": 0.5}))
        torch.testing.assert_close(plain, 2 * half)
        assert plain.std().item() == pytest.approx(7**-0.5, rel=0.2)


@pytest.mark.parametrize("options", [{}, {"absolute": True}, {"posterior_layers": 2}])
def test_the_posterior_in_two_halves_is_one_network(options):
    module = latent(**options)
    deter, embed = torch.randn(2, 3, DETER), torch.randn(2, 3, EMBED)
    both = embed if "absolute" in options else torch.cat([deter, embed], -1)
    expected = module.posterior_out(module.posterior_mlp(both)).view(2, 3, GROUPS, CLASSES)
    ours = module.posterior(deter, module.project(embed))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_an_absolute_posterior_does_not_see_the_state():
    module, deter = latent(absolute=True), torch.randn(2, DETER, requires_grad=True)
    projected = module.project(torch.randn(2, EMBED))
    logits = module.posterior(deter, projected)
    assert torch.autograd.grad(logits.sum(), deter, allow_unused=True) == (None,)
    assert torch.equal(module.posterior(None, projected), logits)


def test_the_prior_is_its_network():
    module, deter = latent(), torch.randn(2, 3, DETER)
    expected = module.prior_out(module.prior_mlp(deter)).view(2, 3, GROUPS, CLASSES)
    assert torch.equal(module.prior(deter), expected)
    assert (len(module.prior_mlp), len(module.posterior_mlp), module.shape) == (2, 1, (5, 4))


def test_noise_is_uniform_for_each_group():
    module, never = latent(), torch.zeros(40, 50, dtype=torch.bool)
    torch.manual_seed(4)
    noise = module.noise(never)
    assert noise.shape == (40, 50, GROUPS)
    assert 0 <= noise.min() < 0.01 < 0.99 < noise.max() < 1
    torch.manual_seed(4)
    assert torch.equal(noise[:, 0], torch.rand(40, GROUPS)), "the numbers of row 0 come first"


def test_the_distribution_mixes_in_one_per_cent():
    probs = latent().distribution(1e4 * torch.eye(CLASSES)[:GROUPS].repeat(2, 1)[:GROUPS]).probs
    assert probs.max().item() == pytest.approx(0.9925)
    assert probs.min().item() == pytest.approx(0.0025)
    assert latent(unimix=0.0).distribution(torch.zeros(GROUPS, CLASSES)).probs.eq(0.25).all()


def test_log_probabilities_are_summed_over_groups():
    logits = torch.randn(2, 3, GROUPS, CLASSES)
    assert latent().distribution(logits).entropy().shape == (2, 3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (2,), (2, 3)]))
def test_unpacking_undoes_packing_exactly(seed, batch):
    """Rows of zeros, the initial carry, included."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(CLASSES + 1, (*batch, GROUPS), generator=generator)
    stoch = torch.cat([torch.zeros(1, CLASSES), torch.eye(CLASSES)])[index]
    packed = latent().pack(stoch)
    assert (packed.dtype, packed.tolist()) == (torch.uint8, index.tolist())
    for dtype in (torch.float32, torch.bfloat16):
        again = latent().unpack(packed, torch.zeros(7, dtype=dtype))
        assert again.dtype == dtype
        assert torch.equal(again, stoch.to(dtype))


def test_the_last_of_255_classes_can_be_packed():
    module = CategoricalLatent(deter=2, embed_dim=3, groups=1, classes=255, hidden=5)
    stoch = torch.eye(255)[:, None]
    assert torch.equal(module.unpack(module.pack(stoch), stoch), stoch)


def test_more_classes_cannot():
    with pytest.raises(ValueError, match=r"at most 255 classes \(stored as uint8\), got 256"):
        CategoricalLatent(deter=2, embed_dim=3, groups=1, classes=256, hidden=5)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"embed should be 11 wide .*got shape \(2, 12\)"):
        latent().project(torch.zeros(2, DETER))
    with pytest.raises(ValueError, match=r"input of Linear should be 12 wide .*\(2, 11\)"):
        latent().prior(torch.zeros(2, EMBED))
    with pytest.raises(TypeCheckError, match=r"packed should be UInt8.*got float32\[2, 5\]"):
        latent().unpack(torch.zeros(2, GROUPS), torch.zeros(()))
    with pytest.raises(TypeCheckError, match=r"stoch should be Float.*got int64\[2, 5\]"):
        latent().pack(torch.zeros(2, GROUPS, dtype=torch.int64))

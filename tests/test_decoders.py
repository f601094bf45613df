from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import Tensor

from worldblocks.decoders import (
    Decoded,
    ImageDecoder,
    MultiDecoder,
    VectorDecoder,
    dreamer_decoder,
    target,
)
from worldblocks.distributions import ImageMSE, OneHot, SymlogMSE
from worldblocks.spaces import Continuous, Discrete, Grid, Image

SPACES = {"speed": Continuous(), "arm": Continuous((2, 3)), "key": Discrete(4, (2,))}
MIXED = {"view": Image(48, 48, 3), "eye": Image(48, 48, 1), **SPACES}
DETER, GROUPS, CLASSES = 16, 3, 5


class Latent(NamedTuple):
    deter: Tensor
    stoch: Tensor

    def parts(self):
        return self.deter, self.stoch.flatten(-2)


def state(*batch):
    return Latent(torch.randn(*batch, DETER), torch.randn(*batch, GROUPS, CLASSES))


def observation(*batch):
    return {
        "view": torch.randint(256, (*batch, 48, 48, 3), dtype=torch.uint8),
        "eye": torch.randint(256, (*batch, 48, 48, 1), dtype=torch.uint8),
        "speed": 100 * torch.randn(*batch),
        "arm": torch.randn(*batch, 2, 3),
        "key": torch.randint(4, (*batch, 2)),
    }


def image_decoder(**options):
    sizes = {"deter": DETER, "stoch": GROUPS * CLASSES, "depth": 2, "units": 7, "blocks": 4}
    return ImageDecoder(**{**sizes, "channels": 3, "size": 48, **options})


def vector_decoder(spaces=SPACES):
    return VectorDecoder(spaces, deter=DETER, stoch=GROUPS * CLASSES, units=7)


def both():
    sizes = {"deter": DETER, "stoch": GROUPS * CLASSES, "depth": 2, "units": 7, "blocks": 4}
    return dreamer_decoder(MIXED, **sizes)


# ------------------------------------------------------------------------------------------- images


def slow_decode(decoder, deter, stoch):
    """The specification for one state: channels of each block at every pixel, then upsampling."""

    def norm(x, layer):
        x = x / (x.square().mean(0, keepdim=True) + 1e-4).sqrt() * layer.norm.scale[:, None, None]
        return x * x.sigmoid()

    blocks, side, top = decoder.from_deter.blocks, decoder.sides[0], len(decoder.norm.norm.scale)
    own = top // blocks
    x = torch.zeros(top, side, side)
    for g, part in enumerate(deter.chunk(blocks)):
        bias = decoder.from_deter.bias.chunk(blocks)[g]
        flat = part @ decoder.from_deter.weight[g] + bias
        x[g * own : (g + 1) * own] = flat.view(side, side, own).permute(2, 0, 1)
    x = x + decoder.from_stoch(stoch).view(side, side, top).permute(2, 0, 1)
    x = norm(x, decoder.norm)
    for conv, channel_norm in zip(decoder.convs, decoder.norms, strict=True):
        up = F.interpolate(x[None], scale_factor=2, mode="nearest")
        x = norm(F.conv2d(up, conv.weight, conv.bias, padding=2)[0], channel_norm)
    up = F.interpolate(x[None], scale_factor=2, mode="nearest")
    return (
        F.conv2d(up, decoder.out.weight, decoder.out.bias, padding=2)[0].sigmoid().permute(1, 2, 0)
    )


def test_it_is_the_specification():
    decoder = image_decoder()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    deter, stoch = torch.randn(2, DETER), torch.randn(2, GROUPS * CLASSES)
    ours = decoder(deter, stoch).mean[1]
    torch.testing.assert_close(ours, slow_decode(decoder, deter[1], stoch[1]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"strided": True}, {"outer": True, "size": 24}])
@pytest.mark.parametrize("batch", [(), (2,), (2, 5)])
def test_an_image_between_0_and_1_for_any_batch_axes(options, batch):
    decoder = image_decoder(**options)
    out = decoder(torch.randn(*batch, DETER), torch.randn(*batch, GROUPS * CLASSES))
    size = options.get("size", 48)
    assert isinstance(out, ImageMSE)
    assert (out.mean.shape, out.mean.dtype) == ((*batch, size, size, 3), torch.float32)
    assert ((out.mean > 0) & (out.mean < 1)).all()


def test_states_do_not_mix():
    decoder, (deter, stoch) = image_decoder(), state(2, 5)
    alone = decoder(deter[1, 3], stoch[1, 3].flatten()).mean
    whole = decoder(deter, stoch.flatten(-2)).mean[1, 3]
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)


def test_shapes_are_checked():
    with pytest.raises(
        TypeCheckError, match=r"stoch should be .*got float32\[3, 15\]; its axis \*batch is \[3\]"
    ):
        image_decoder()(torch.zeros(2, DETER), torch.zeros(3, 15))
    with pytest.raises(
        TypeCheckError, match=r"stoch should be .*got float32\[3, 15\]; its axis \*batch is \[3\]"
    ):
        vector_decoder()(torch.zeros(2, DETER), torch.zeros(3, 15))
    with pytest.raises(ValueError, match=r"input of BlockLinear should be 16 wide .*\(2, 15\)"):
        image_decoder()(torch.zeros(2, 15), torch.zeros(2, 16))


def test_blocks_must_divide_the_first_map():
    message = r"depth \* mults\[-1\] divisible by 3 blocks, got 2 \* 4"
    with pytest.raises(ValueError, match=message):
        image_decoder(blocks=3, deter=18)


# ------------------------------------------------------------------------------------------ vectors


def test_a_key_gives_an_output_of_its_kind():
    out = vector_decoder()(torch.randn(2, 7, DETER), torch.randn(2, 7, GROUPS * CLASSES))
    assert list(out) == ["arm", "key", "speed"]
    assert [type(output) for output in out.values()] == [SymlogMSE, OneHot, SymlogMSE]
    assert [tuple(output.mean.shape[2:]) for output in out.values()] == [(2, 3), (2, 4), ()]
    one = vector_decoder()(torch.randn(DETER), torch.randn(GROUPS * CLASSES))
    assert [tuple(output.mean.shape) for output in one.values()] == [(2, 3), (2, 4), ()]


def test_the_stochastic_part_comes_first():
    decoder, (deter, stoch) = vector_decoder(), state(2)
    hidden = decoder.mlp(torch.cat([stoch.flatten(-2), deter], -1))
    expected = decoder.outs[0](hidden).view(2, 2, 3)
    assert torch.equal(decoder(deter, stoch.flatten(-2))["arm"].mean, expected)


def test_any_name_is_a_key():
    names = {"keys": Continuous(), "a.b": Continuous(), "": Continuous()}
    out = vector_decoder(names)(torch.zeros(2, DETER), torch.zeros(2, 15))
    assert list(out) == ["", "a.b", "keys"]


@pytest.mark.parametrize(
    ("spaces", "got"), [(MIXED, r"the images \['eye', 'view'\]"), ({}, "none")]
)
def test_a_vector_decoder_makes_vectors_only(spaces, got):
    with pytest.raises(
        ValueError, match=f"VectorDecoder takes vector observations only, got {got}"
    ):
        vector_decoder(spaces)


# --------------------------------------------------------------------------------------------- both


def test_images_are_split_in_sorted_order():
    decoder, latent = both(), state(2)
    out = decoder(latent)
    joined = decoder.image(latent.deter, latent.stoch.flatten(-2)).mean
    assert torch.equal(out["eye"].mean, joined[..., :1])
    assert torch.equal(out["view"].mean, joined[..., 1:])
    assert set(out.mean) == set(MIXED)


def test_the_loss_is_the_sum_over_keys():
    out, obs = both()(state(2, 5)), observation(2, 5)
    key = F.one_hot(obs["key"], 4).float()
    parts = [out[k].nll(obs[k] if k != "key" else key) for k in MIXED]
    torch.testing.assert_close(out.nll(obs), sum(parts))
    assert out.nll(obs).shape == (2, 5)


def test_it_slices_like_a_tensor():
    out, obs = both()(state(2, 5)), observation(2, 5)
    part = out[:, 1:-1]
    assert isinstance(part, Decoded)
    expected = out.nll(obs)[:, 1:-1]
    torch.testing.assert_close(part.nll({key: x[:, 1:-1] for key, x in obs.items()}), expected)
    assert out[0].mean["view"].shape == (5, 48, 48, 3)


def test_images_alone_and_vectors_alone():
    sizes = {"deter": DETER, "stoch": 15, "depth": 2, "units": 7, "blocks": 4}
    image = dreamer_decoder({"view": MIXED["view"]}, **sizes, strided=True)
    assert (image.vector, list(image(state(2)))) == (None, ["view"])
    vector = dreamer_decoder(SPACES, **sizes)
    assert (vector.image, list(vector(state(2)))) == (None, ["arm", "key", "speed"])


def test_a_misspelt_key_is_a_sentence():
    obs = observation(2)
    obs["veiw"] = obs.pop("view")
    with pytest.raises(KeyError, match=r"the decoder takes .* missing \['view'\], .* \['veiw'\]"):
        both()(state(2)).nll(obs)


def test_a_float_image_is_no_target():
    obs = {**observation(2), "view": torch.rand(2, 48, 48, 3)}
    with pytest.raises(
        TypeError, match=r"an image target must be uint8 in 0…255, got torch\.float32"
    ):
        both()(state(2)).nll(obs)


def test_a_target_does_not_broadcast():
    with pytest.raises(ValueError, match="nothing broadcasts"):
        both()(state(2)).nll({**observation(2), "arm": torch.zeros(1, 2, 3)})


def test_the_decoders_must_fit_the_spaces():
    message = (
        "MultiDecoder needs an image decoder if and only if there are images, and a vector decoder"
    )
    for arguments in (
        {"spaces": MIXED, "image": image_decoder(channels=4)},
        {"spaces": MIXED, "vector": vector_decoder()},
        {"spaces": SPACES, "vector": vector_decoder(), "image": image_decoder()},
    ):
        with pytest.raises(ValueError, match=message):
            MultiDecoder(**arguments)
    with pytest.raises(ValueError, match=r"makes 3 channels, the images have {'eye': 1"):
        MultiDecoder(MIXED, image=image_decoder(), vector=vector_decoder())


def test_cameras_of_several_sizes_and_grids_have_a_part_each():
    spaces = {"b": Image(20, 33, 3), "a": Image(9, 8, 1), "g": Grid(3, 2, 2, 4), "v": Continuous()}
    sizes = {"deter": DETER, "stoch": 15, "depth": 2, "units": 7, "blocks": 4}
    decoder = dreamer_decoder(spaces, **sizes)
    out = decoder(state(2, 5))
    shapes = {key: tuple(mean.shape[2:]) for key, mean in out.mean.items()}
    assert shapes == {"v": (), "a": (9, 8, 1), "b": (20, 33, 3), "g": (3, 2, 2, 4)}
    torch.testing.assert_close(out["g"].mean.sum(-1), torch.ones(2, 5, 3, 2, 2))
    obs = {key: torch.zeros(2, 5, *s.shape, dtype=torch.uint8) for key, s in spaces.items()}
    obs["v"] = torch.zeros(2, 5)
    cells = -out["g"].logits[..., 0].sum((-3, -2, -1))
    torch.testing.assert_close(out["g"].nll(target(out["g"], obs["g"])), cells)
    parts = [out[key].nll(obs[key]) for key in "abv"]
    torch.testing.assert_close(out.nll(obs), sum(parts) + cells)
    message = r"for each size of images .*; got 1 for the images \[\['a'\], \['b'\]\] and \[\] for"
    with pytest.raises(ValueError, match=message):
        MultiDecoder(spaces, image=decoder.image[0], vector=decoder.vector)


class Own(torch.nn.Module):
    """A grey image."""

    def __init__(self, **members):
        super().__init__()
        for name, value in members.items():
            setattr(self, name, value)

    def forward(self, deter, stoch):
        return ImageMSE(deter.new_full((*deter.shape[:-1], 37, 51, 4), 0.5))


def test_an_image_part_of_ones_own():
    spaces = {"a": Image(37, 51, 3), "b": Image(37, 51, 1)}
    sizes = {"deter": DETER, "stoch": 15, "depth": 2, "units": 7}
    out = dreamer_decoder(spaces, **sizes, image=Own(channels=4))(state(2))
    assert [tuple(mean.shape) for mean in out.mean.values()] == [(2, 37, 51, 3), (2, 37, 51, 1)]
    other = MultiDecoder({"a": Image(9, 9, 4)}, image=Own(channels=4))
    message = r"Own is .*, and gave a mean of float32\[2, 37, 51, 4\]; .* of float\[2, 9, 9, 4\], `"
    with pytest.raises(ValueError, match=message):
        other(state(2))
    with pytest.raises(TypeError, match="Own is used as an image part and has no channels; an"):
        MultiDecoder(spaces, image=Own())
    with pytest.raises(ValueError, match=r"Own is for 4 channels, the images are {'a'"):
        dreamer_decoder({**spaces, "c": Image(8, 8, 1)}, **sizes, image=Own(channels=4))


def test_mults_and_outer_arrive():
    sizes = {"deter": DETER, "stoch": 15, "depth": 2, "units": 7, "blocks": 2}
    spaces = {"a": Image(20, 16, 1), "g": Grid(4, 4, 1, 3)}
    decoder = dreamer_decoder(spaces, **sizes, mults=(1, 2, 5), outer=True)
    for part in (decoder.image, decoder.grids[0].planes):
        assert [conv.out_channels for conv in part.convs] == [4, 2]
    assert (decoder.image.sides, decoder.grids[0].planes.sides) == ((5, 4), (1, 1))


def test_gradients_reach_every_parameter_and_the_state():
    decoder, latent = both(), state(2)
    for x in latent:
        x.requires_grad_()
    wanted = [*decoder.parameters(), *latent]
    grads = torch.autograd.grad(decoder(latent).nll(observation(2)).sum(), wanted)
    assert all(g.ne(0).any() for g in grads)


def test_capture(same_when_compiled):
    spaces = {"view": Image(12, 12, 3), "speed": Continuous(), "key": Discrete(4, (2,))}
    decoder = MultiDecoder(
        spaces,
        image=image_decoder(size=12, mults=(1, 2)),
        vector=vector_decoder({key: spaces[key] for key in ("speed", "key")}),
    )
    obs = {key: observation(2, 3)[key] for key in spaces}
    obs["view"] = obs["view"][:, :, :12, :12]
    same_when_compiled(
        lambda deter, stoch: decoder(Latent(deter, stoch)).nll(obs) / 1e3,
        *state(2, 3),
        module=decoder,
    )


def test_under_autocast_it_stays_near_float32():
    decoder, latent, obs = both(), state(2), observation(2)
    exact = decoder(latent).nll(obs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = decoder(latent).nll(obs)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, exact, rtol=0.02, atol=0)

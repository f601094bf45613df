import math

import pytest
import torch
import torch.nn.functional as F

from worldblocks.encoders import (
    GridEncoder,
    ImageEncoder,
    MultiEncoder,
    VectorEncoder,
    check_keys,
    dreamer_encoder,
    group_shape,
    image_groups,
    image_sides,
    image_stages,
    images_of,
    vectors_of,
)
from worldblocks.layers import PooledConv2d
from worldblocks.spaces import Continuous, Discrete, Grid, Image

SPACES = {"speed": Continuous(), "arm": Continuous((2, 3)), "key": Discrete(4, (2,))}
MIXED = {"view": Image(48, 48, 3), "eye": Image(48, 48, 1), **SPACES}


def pixels(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def images(*batch, size=48, channels=3):
    return pixels(*batch, size, size, channels)


def vectors(*batch):
    return {
        "speed": torch.randn(*batch),
        "arm": torch.randn(*batch, 2, 3),
        "key": torch.randint(4, (*batch, 2)),
    }


def observation(*batch):
    return {"view": images(*batch), "eye": images(*batch, channels=1), **vectors(*batch)}


def small(channels=3, **options):
    return ImageEncoder(channels=channels, size=48, depth=2, **options)


# ------------------------------------------------------------------------------------------- images


def slow_encode(encoder, image):
    """The specification, stage by stage: convolution, max-pool, RMSNorm over channels, SiLU."""
    x = image.permute(2, 0, 1)[None].double() / 255 - 0.5
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = F.conv2d(x, conv.weight.double(), conv.bias.double(), padding=2)
        x = F.max_pool2d(x, 2)
        rms = (x.square().mean(1, keepdim=True) + 1e-4).sqrt()
        x = x / rms * norm.norm.scale.double()[:, None, None]
        x = x * x.sigmoid()
    return x[0].permute(1, 2, 0).flatten().float()


def test_it_is_the_specification():
    encoder, image = small(), images(2)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.testing.assert_close(
        encoder(image)[1], slow_encode(encoder, image[1]), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({}, 3 * 3 * 8),
        ({"strided": True}, 3 * 3 * 8),
        ({"outer": True}, 6 * 6 * 8),
        ({"strided": True, "outer": True}, 6 * 6 * 8),
        ({"mults": (1, 2, 3)}, 6 * 6 * 6),
    ],
)
def test_the_embedding_has_the_width_it_says(options, width):
    encoder = small(**options)
    assert encoder.embed_dim == width
    assert encoder(images(2, 5)).shape == (2, 5, width)


@pytest.mark.parametrize("batch", [(), (2,), (2, 5), (0,), (2, 0, 3)])
def test_any_batch_axes(batch):
    encoder = small()
    out = encoder(images(*batch))
    assert (out.shape, out.dtype) == ((*batch, 72), torch.float32)


def test_images_do_not_mix():
    encoder, image = small(), images(2, 5)
    torch.testing.assert_close(encoder(image)[1, 3], encoder(image[1, 3]), rtol=1e-4, atol=1e-5)


def test_pixels_enter_centred():
    """255 gives 1/2, 0 gives -1/2."""
    seen = {}
    image = torch.zeros(12, 12, 3, dtype=torch.uint8)
    encoder = ImageEncoder(channels=3, size=12, depth=2, mults=(1, 1))
    encoder.convs[0].register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    image[4, 7, 2] = 255
    encoder(image)
    assert seen["x"].shape == (1, 3, 12, 12)
    assert seen["x"].sum().item() == pytest.approx(1 - 0.5 * 432)
    assert seen["x"][0, 2, 4, 7] == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.int8])
def test_images_of_another_dtype_are_refused(dtype):
    with pytest.raises(TypeError, match=f"an image must be uint8 in 0…255, got {dtype}"):
        small()(torch.zeros(2, 48, 48, 3).to(dtype))


@pytest.mark.parametrize("shape", [(2, 3, 48, 48), (2, 48, 48, 1), (2, 64, 48, 3), (48, 3), ()])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"takes images of 48×48×3 \(height, width, channel\), got"
    ):
        small()(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 7}, r"an image of 7×7 pixels; its sides may have 8 to 512: .*--image 64 .*Grid"),
        ({"size": (64, 513)}, "an image of 64×513 pixels; its sides may have 8 to 512"),
        ({"size": 0}, r"is one positive integer, or \(height, width\) such as .* got 0"),
        ({"size": (9, 9, 3)}, r"got \(9, 9, 3\)"),
        ({"size": 10, "mults": (1,) * 5}, r"10×10 pixels has 1 to 4 stages with outer=False, .* 1"),
        ({"size": 64, "mults": ()}, r"has 1 to 7 stages .* got mults=\(\)"),
    ],
)
def test_sizes_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(channels=3, depth=2, **arguments)


@pytest.mark.parametrize("outer", [False, True])
def test_the_stages_follow_the_longer_side(outer):
    """3 to 16 pixels remain, and the sizes of the reference have its stages."""
    for side in range(8, 513):
        mults = image_stages((side, 8), outer=outer)
        halvings = len(mults) - outer
        height, width = image_sides((side, 8), mults, outer=outer)
        assert mults == (2, 3, 4, 4, 4)[: len(mults)]
        assert (height, width) == (-(-side // 2**halvings), -(-8 // 2**halvings))
        assert 3 <= height <= 16 or outer
        if not outer:
            expected = 1 + (side >= 12) + (side >= 24) + (side >= 48) + (side > 256)
            assert halvings == expected
        elif 24 <= side <= 128:
            assert mults == (2, 3, 4, 4)


def test_gradients_reach_every_parameter_and_capture(same_when_compiled):
    encoder = small()
    grads = torch.autograd.grad(encoder(images(2, 3)).square().sum(), list(encoder.parameters()))
    assert all(g.ne(0).any() for g in grads)
    # With few channels the products are summed in another order, see test_layers.py. Two images
    # only: kernel gradients sum over all pixels, and rounding errors grow with their number.
    encoder, image = small(channels=5), images(2, channels=5)
    same_when_compiled(lambda: encoder(image), module=encoder, by_entry=False)


def test_under_autocast_it_stays_near_float32():
    encoder, image = small(), images(2)
    exact = encoder(image)
    with torch.autocast("cpu", torch.bfloat16):
        cast = encoder(image)
    torch.testing.assert_close(cast.float(), exact, rtol=0, atol=0.1)


# ------------------------------------------------------------------------------------------ vectors


def seen_by(encoder, obs):
    """The input of the MLP of an encoder."""
    seen = {}
    encoder.mlp.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    encoder(obs)
    return seen["x"]


def test_vectors_are_symlogged_and_classes_become_one_hots_in_sorted_order():
    encoder = VectorEncoder(SPACES, units=7)
    obs = {
        "speed": torch.tensor(math.e - 1),
        "arm": torch.tensor([[0.0, 1 - math.e, 0.0], [0.0, 0.0, 0.0]]),
        "key": torch.tensor([3, 0]),
    }
    x = seen_by(encoder, obs)
    expected = [0, -1, 0, 0, 0, 0, *(0, 0, 0, 1), *(1, 0, 0, 0), 1]
    torch.testing.assert_close(x, torch.tensor(expected, dtype=torch.float32))
    assert encoder.embed_dim == 7


def test_a_missing_class_is_all_zeros():
    assert (
        seen_by(VectorEncoder({"key": Discrete(4)}, units=7), {"key": torch.tensor(-1)}).sum() == 0
    )


def test_any_batch_axes_of_vectors():
    encoder = VectorEncoder(SPACES, units=7)
    obs = vectors(2, 5)
    assert encoder(obs).shape == (2, 5, 7)
    assert encoder(vectors(0)).shape == (0, 7)
    one = {key: value[1, 3] for key, value in obs.items()}
    torch.testing.assert_close(encoder(obs)[1, 3], encoder(one))


def test_huge_numbers_stay_finite():
    encoder = VectorEncoder({"speed": Continuous()}, units=7)
    assert encoder({"speed": torch.tensor([1e30, -1e30, 1e-30])}).isfinite().all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("speed", torch.zeros(3, dtype=torch.int64), r"'speed' should be floats .*int64.*\(3,\)"),
        ("key", torch.zeros(3, 2), r"'key' should be integers of shape \('\*batch', 2\), got .*32"),
        ("arm", torch.zeros(3, 6), r"'arm' should be floats .* 2, 3\), got .*\(3, 6\)"),
        ("arm", torch.zeros(3), r"'arm' should be floats .* 2, 3\), got .*\(3,\)"),
    ],
)
def test_a_wrong_observation_is_named(key, value, message):
    with pytest.raises(ValueError, match=f"observation {message}"):
        VectorEncoder(SPACES, units=7)({**vectors(3), key: value})


def test_other_batch_axes_are_refused():
    obs = {**vectors(3), "speed": torch.zeros(5)}
    message = r"have the same batch axes, got the shapes {'arm': \(3, 2, 3\), .* 'speed': \(5,\)}"
    with pytest.raises(ValueError, match=message):
        VectorEncoder(SPACES, units=7)(obs)


@pytest.mark.parametrize(
    ("spaces", "got"), [(MIXED, r"the images \['eye', 'view'\]"), ({}, "none")]
)
def test_a_vector_encoder_takes_vectors_only(spaces, got):
    with pytest.raises(ValueError, match=f"takes vector observations only, got {got}"):
        VectorEncoder(spaces, units=7)
    assert list(vectors_of("any", SPACES)) == ["arm", "key", "speed"]


# --------------------------------------------------------------------------------------------- both


def both():
    return dreamer_encoder(MIXED, depth=2, units=7)


def test_the_vector_part_comes_first_and_images_join_in_sorted_order():
    encoder, obs = both(), observation(2, 5)
    vector = encoder.vector({key: obs[key] for key in SPACES})
    image = encoder.image(torch.cat([obs["eye"], obs["view"]], -1))
    assert torch.equal(encoder(obs), torch.cat([vector, image], -1))
    assert encoder.embed_dim == 7 + 72


def test_images_alone_and_vectors_alone():
    obs = observation(2)
    image = dreamer_encoder({"view": MIXED["view"]}, depth=2, units=7, strided=True)
    assert image.vector is None
    assert not any(isinstance(conv, PooledConv2d) for conv in image.image.convs)
    assert image({"view": obs["view"]}).shape == (2, 72)
    vector = dreamer_encoder(SPACES, depth=2, units=7)
    assert vector.image is None
    assert vector({key: obs[key] for key in SPACES}).shape == (2, 7)


def test_a_misspelt_key_is_a_sentence():
    obs = observation(2)
    obs["veiw"] = obs.pop("view")
    message = (
        r"MultiEncoder takes the observations \['arm', 'eye', 'key', 'speed', 'view'\], got .*: "
        r"missing \['view'\], unexpected \['veiw'\]"
    )
    with pytest.raises(KeyError, match=message):
        both()(obs)
    with pytest.raises(
        KeyError, match=r"VectorEncoder takes .* missing \['arm'\], unexpected \[\]"
    ):
        VectorEncoder(SPACES, units=7)({"speed": obs["speed"], "key": obs["key"]})
    check_keys("any", ["a"], {"a": 1})


@pytest.mark.parametrize(
    ("view", "got"),
    [
        (torch.rand(2, 48, 48, 3), r"torch.float32 of shape \(2, 48, 48, 3\)"),
        (pixels(2, 3, 48, 48), r"torch.uint8 of shape \(2, 3, 48, 48\)"),
        (pixels(3), r"torch.uint8 of shape \(3,\)"),
    ],
)
def test_a_wrong_image_is_named(view, got):
    message = rf"'view' should be a uint8 image of shape \(\*batch, 48, 48, channel\), got {got}"
    with pytest.raises(ValueError, match=message):
        both()({**observation(2), "view": view})


@pytest.mark.parametrize("change", [{"view": images(5)}, vectors(5)])
def test_observations_of_different_batches(change):
    with pytest.raises(
        ValueError, match="observations must have the same batch axes, got the shapes"
    ):
        both()({**observation(2), **change})


def test_the_encoders_must_fit_the_keys():
    message = r"an image encoder if and only if there are image keys, .* got image_keys="
    for arguments in ({}, {"image": small()}, {"image_keys": ["view"]}):
        with pytest.raises(ValueError, match=message):
            MultiEncoder(**arguments)


def test_cameras_of_several_sizes_have_a_part_each():
    spaces = {"b": Image(20, 33, 3), "a": Image(9, 8, 1), "c": Image(20, 33, 1), "v": Continuous()}
    encoder = dreamer_encoder(spaces, depth=2, units=7)
    obs = {key: pixels(2, *s.shape) for key, s in spaces.items() if key != "v"}
    obs["v"] = torch.randn(2)
    one, two = encoder.image
    expected = [encoder.vector({"v": obs["v"]}), one(obs["a"])]
    expected.append(two(torch.cat([obs["b"], obs["c"]], -1)))
    assert torch.equal(encoder(obs), torch.cat(expected, -1))
    assert (encoder.image_keys, encoder.grid_keys) == (["a", "b", "c"], [])
    assert image_groups(spaces) == [["a"], ["b", "c"]]
    assert (list(images_of(spaces)), group_shape(spaces, ["b", "c"])) == (
        ["a", "b", "c"],
        ((20, 33), 4),
    )


class Own(torch.nn.Module):
    """The mean of each channel."""

    def __init__(self, **members):
        super().__init__()
        for name, value in members.items():
            setattr(self, name, value)

    def forward(self, image):
        return image.float().mean((-3, -2))


def test_an_image_part_of_ones_own():
    own = Own(size=(37, 51), channels=4, embed_dim=4)
    spaces = {"a": Image(37, 51, 3), "b": Image(37, 51, 1)}
    encoder = dreamer_encoder(spaces, depth=2, units=7, image=own)
    assert encoder({"a": pixels(5, 37, 51, 3), "b": pixels(5, 37, 51, 1)}).shape == (5, 4)
    with pytest.raises(TypeError, match=r"Own is used as an image part and has no size, embed_"):
        MultiEncoder(image=Own(channels=3), image_keys=["a"])
    for wrong in ({**spaces, "c": Image(8, 8, 1)}, {"a": spaces["a"]}, SPACES):
        message = r"one image part .* for images of one size.* Own is for 37×51×4, the images are {"
        with pytest.raises(ValueError, match=message):
            dreamer_encoder(wrong, depth=2, units=7, image=own)
    for make, message in (
        (lambda: Own, "an nn.Module, got the class Own; give an instance"),
        (lambda: Own(size="a", channels=4, embed_dim=4), "or .height, width. such as .* got 'a'"),
        (lambda: Own(size=9, channels=0, embed_dim=4), "with channels=0; channels is a whole num"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            MultiEncoder(image=make(), image_keys=["a"])
    other = MultiEncoder(image=Own(size=9, channels=3, embed_dim=5), image_keys=["a"])
    message = r"Own is .*, and gave float32\[2, 3\] for the images \['a'\]; it gives float\[2, 5\]"
    with pytest.raises(ValueError, match=message):
        other({"a": pixels(2, 9, 9, 3)})
    with pytest.raises(ValueError, match=r"one key for two encoders: \['a', 'a'\]"):
        MultiEncoder(image=[own, own], image_keys=[["a"], ["a"]])


def test_mults_and_outer_arrive():
    options = {"depth": 2, "units": 7, "mults": (1, 2, 5), "outer": True}
    encoder = dreamer_encoder({"a": Image(20, 16, 1), "g": Grid(4, 4, 1, 3)}, **options)
    for part in (encoder.image, encoder.grids[0].planes):
        assert [conv.out_channels for conv in part.convs] == [2, 4, 10]
        assert part.halvings == 2


# -------------------------------------------------------------------------------------------- grids


def test_a_grid_enters_as_planes_of_one_hots():
    board, seen = Grid(3, 2, channels=2, classes=4), {}
    encoder = GridEncoder(board, depth=2)
    encoder.planes.convs[0].register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    value = torch.randint(4, (5, 3, 2, 2), dtype=torch.uint8)
    value[0, 0, 0, 0] = 9  # no class
    assert encoder(value).shape == (5, encoder.embed_dim) == (5, 2 * 1 * 4)
    planes = seen["x"][:, :, :3, :2].unflatten(1, (2, 4))
    for channel in range(2):
        for k in range(4):
            assert torch.equal(planes[:, channel, k], (value[..., channel] == k).float())
    assert (seen["x"].shape, planes.sum().item()) == ((5, 8, 4, 2), 5 * 3 * 2 * 2 - 1)
    for wrong in (value.float(), value[..., :1]):
        with pytest.raises(ValueError, match=r"takes classes of shape \('\*batch', 3, 2, 2\) for"):
            encoder(wrong)


def test_a_grid_among_others():
    spaces = {**MIXED, "a.b": Grid(7, 7, 3, 11), "keys": Grid(1, 1, 1, 2)}
    encoder = dreamer_encoder(spaces, depth=2, units=7)
    grids = {
        "a.b": torch.randint(11, (2, 7, 7, 3), dtype=torch.uint8),
        "keys": torch.ones(2, 1, 1, 1, dtype=torch.uint8),
    }
    assert encoder({**observation(2), **grids}).shape == (2, encoder.embed_dim)
    assert encoder.embed_dim == both().embed_dim + 4 * 4 * 4 + 4
    assert encoder.picture_keys == ["a.b", "eye", "keys", "view"]

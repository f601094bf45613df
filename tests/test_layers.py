import copy
import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.layers import (
    MLP,
    BlockLinear,
    ChannelNorm,
    Conv2d,
    ConvTranspose2d,
    Layer,
    Linear,
    MirroredLinear,
    PooledConv2d,
    RMSNorm,
    UpConv2d,
    init_trunc_normal,
)
from worldblocks.layers.few_channels import same_conv2d

seeds = st.integers(0, 2**32 - 1)


def randomise(module):
    """Randomise biases and scales, whose initial values of 0 and 1 hide mistakes."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


# ------------------------------------------------------------------------------------- initialisers


@pytest.mark.parametrize("outscale", [1.0, 0.01, 0.0])
def test_kernels_start_as_a_truncated_normal(outscale):
    weight = torch.empty(300, 1000)
    init_trunc_normal(weight, fan_in=50, outscale=outscale)
    unit = weight * math.sqrt(50)
    assert unit.std().item() == pytest.approx(outscale, rel=0.01)
    assert unit.mean().item() == pytest.approx(0, abs=0.01)
    assert unit.abs().max() <= 2 * 1.1368 * outscale + 1e-6


def fresh(layer):
    return layer.weight.std().item(), layer.bias.abs().max().item()


def test_fan_in_is_the_whole_input():
    """For a block-linear map too: its kernels start smaller by a factor sqrt(blocks)."""
    assert fresh(Linear(800, 300)) == (pytest.approx(1 / math.sqrt(800), rel=0.02), 0)
    assert fresh(BlockLinear(800, 400, blocks=8)) == (pytest.approx(800**-0.5, rel=0.02), 0)
    assert fresh(Conv2d(32, 90, 5)) == (pytest.approx((25 * 32) ** -0.5, rel=0.02), 0)
    assert fresh(UpConv2d(32, 90)) == (pytest.approx((25 * 32) ** -0.5, rel=0.02), 0)
    assert fresh(ConvTranspose2d(32, 90, 5, stride=2))[0] == pytest.approx(800**-0.5, rel=0.02)


def test_outscale_multiplies_the_kernel_alone():
    assert fresh(Linear(800, 300, outscale=0.0)) == (0, 0)
    assert fresh(BlockLinear(800, 400, blocks=8, outscale=0.5))[0] == pytest.approx(
        0.0177, rel=0.02
    )
    assert fresh(Conv2d(32, 90, 5, outscale=0.5))[0] == pytest.approx(0.0177, rel=0.02)


# ------------------------------------------------------------------------------------- block linear


def test_block_linear_by_hand():
    layer = BlockLinear(4, 2, blocks=2)
    layer.weight.data = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    layer.bias.data = torch.tensor([0.5, -0.5])
    assert layer(torch.tensor([1.0, 1, 1, 1])).tolist() == [3.5, 6.5]


@given(seeds, st.sampled_from([(), (2,), (2, 5), (0,)]))
def test_block_linear_is_a_block_diagonal_matrix(seed, batch):
    torch.manual_seed(seed)
    layer = randomise(BlockLinear(12, 21, blocks=3))
    x = torch.randn(*batch, 12)
    dense = torch.block_diag(*layer.weight)
    torch.testing.assert_close(layer(x), x @ dense + layer.bias, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.by_block(x), layer(x).reshape(*batch, 3, 7))


@given(seeds, st.sampled_from([(), (2,), (2, 5), (0,)]))
def test_every_block_sees_the_shared_features_after_its_own(seed, batch):
    torch.manual_seed(seed)
    layer = randomise(BlockLinear(3 * (4 + 5), 21, blocks=3))
    x, shared = torch.randn(*batch, 12), torch.randn(*batch, 5)
    joined = torch.cat([torch.cat([part, shared], -1) for part in x.chunk(3, -1)], -1)
    torch.testing.assert_close(layer(x, shared), layer(joined), rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.by_block(x, shared), layer(x, shared).reshape(*batch, 3, 7))


def test_one_block_is_a_linear_map():
    blocks, linear = randomise(BlockLinear(5, 7, blocks=1)), Linear(5, 7)
    linear.weight.data, linear.bias.data = blocks.weight[0].T, blocks.bias
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(blocks(x), linear(x))


def test_blocks_do_not_mix():
    layer, x = BlockLinear(6, 9, blocks=3), torch.randn(2, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[:, 3:6].sum(), x)
    assert gradient.ne(0).tolist() == [[False, False, True, True, False, False]] * 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((7, 6), "in_features divisible by 3 blocks, got 7"), ((6, 7), "out_features .*, got 7")],
)
def test_blocks_must_divide(sizes, message):
    with pytest.raises(ValueError, match=f"BlockLinear needs {message}"):
        BlockLinear(*sizes, blocks=3)


# --------------------------------------------------------------------------------------------- norm


@pytest.mark.parametrize("out", [1, 2, 5, 6])
def test_a_mirrored_linear_map_is_a_linear_map(out):
    layer, x = MirroredLinear(7, out), torch.randn(3, 4, 7, requires_grad=True)
    torch.nn.init.normal_(layer.bias)
    wanted = [x, layer.weight, layer.bias]
    ours, plain = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, plain)
    weight = torch.randn_like(plain)
    found = (torch.autograd.grad((y * weight).sum(), wanted) for y in (ours, plain))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("out", [41, 240, 254, 255, 256])
@pytest.mark.parametrize("width", [7, 32])
def test_mirrored_rows_stay_equal_to_the_bit(out, width, threads):
    """Equal weights give equal outputs, equal gradients of outputs equal gradients of weights."""
    for rows in (1, 3, 16, 120, 1024):
        layer, x = MirroredLinear(width, out), torch.randn(rows, width)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_().add_(parameter.flip(0))
        y, gradient = layer(x), torch.randn(rows, out)
        assert torch.equal(y, y.flip(-1))
        y.backward(gradient + gradient.flip(-1))
        for parameter in layer.parameters():
            assert torch.equal(parameter.grad, parameter.grad.flip(0))


def test_rms_norm_by_hand():
    """The mean square of (3, 4) is 12.5."""
    norm = RMSNorm(2)
    norm.scale.data = torch.tensor([1.0, 2.0])
    expected = torch.tensor([3, 8]) / math.sqrt(12.5001)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), expected)


@given(seeds)
def test_rms_norm_is_the_formula(seed):
    torch.manual_seed(seed)
    norm, x = randomise(RMSNorm(7)), torch.randn(2, 5, 7)
    exact = x.double()
    exact = exact / (exact.square().mean(-1, keepdim=True) + 1e-4).sqrt() * norm.scale
    torch.testing.assert_close(norm(x), exact.float(), rtol=1e-5, atol=1e-6)


@given(seeds, st.floats(100, 1e6))
def test_rms_norm_forgets_the_scale_and_keeps_the_sign(seed, factor):
    torch.manual_seed(seed)
    norm, x = RMSNorm(7), torch.randn(5, 7).sign()
    torch.testing.assert_close(norm(-factor * x), -norm(1e6 * x), rtol=1e-4, atol=1e-4)


def test_rms_norm_computes_in_float32_and_casts_back():
    x = (100 + torch.randn(64, 512)).bfloat16()
    norm = randomise(RMSNorm(512))
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), norm(x.float()).bfloat16(), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = norm(x.float())
    torch.testing.assert_close(cast, norm(x.float()), rtol=0, atol=0)


def test_rms_norm_of_extremes():
    norm = RMSNorm(3)
    assert norm(torch.zeros(3)).tolist() == [0, 0, 0]
    assert norm(torch.full((3,), 1e-30)).tolist() == pytest.approx([1e-28] * 3)
    torch.testing.assert_close(norm(torch.full((3,), 1e18)), torch.ones(3))
    rows = norm(torch.tensor([[math.nan, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    assert rows.isnan().all(-1).tolist() == [True, False]


# ------------------------------------------------------------------------------------ layer and MLP


def test_a_layer_is_linear_then_norm_then_silu():
    layer, x = randomise(Layer(5, 7)), torch.randn(2, 3, 5)
    linear = x @ layer.linear.weight.T + layer.linear.bias
    norm = linear / (linear.square().mean(-1, keepdim=True) + 1e-4).sqrt() * layer.norm.scale
    torch.testing.assert_close(layer(x), norm * norm.sigmoid(), rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.activate(layer.linear(x)), layer(x))


def test_an_mlp_is_its_layers():
    mlp, x = randomise(MLP(5, units=7, layers=3)), torch.randn(2, 3, 5)
    assert [tuple(layer.linear.weight.shape) for layer in mlp] == [(7, 5), (7, 7), (7, 7)]
    assert torch.equal(mlp(x), mlp[2](mlp[1](mlp[0](x))))
    assert mlp.out_features == 7


def test_an_mlp_has_a_layer():
    with pytest.raises(ValueError, match="an MLP needs at least 1 layer, got 0"):
        MLP(5, units=7, layers=0)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Linear(5, 7), "Linear"),
        (BlockLinear(5, 10, blocks=5), "BlockLinear"),
        (RMSNorm(5), "RMSNorm"),
        (MLP(5, units=7, layers=2), "Linear"),
    ],
)
def test_another_width_is_refused(module, name):
    with pytest.raises(ValueError, match=rf"input of {name} should be 5 wide .*got shape \(3, 4\)"):
        module(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"5 wide \(last axis\), got shape \(\)"):
        module(torch.tensor(1.0))


def test_another_width_beside_shared_features_is_refused():
    wanted = r"beside 2 shared features should be 15 wide .*got shape \(3, 14\)"
    with pytest.raises(ValueError, match=wanted):
        BlockLinear(25, 10, blocks=5)(torch.zeros(3, 14), torch.zeros(3, 2))


@pytest.mark.parametrize("shape", [(3, 5), (3, 6), (2, 2), (3, 1, 2), (2,)])
def test_shared_features_of_another_shape_are_refused(shape):
    layer = BlockLinear(25, 10, blocks=5)
    message = rf"fewer than 5 shared features, .*got shape \({shape[0]}, ?.*for an input \(3, 15\)$"
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(3, 15), torch.zeros(shape))


def test_blocks_of_integers_are_refused():
    """Weights converted to integers would be zeros."""
    with pytest.raises(TypeError, match=r"BlockLinear takes floats, got an input of torch\.int64"):
        BlockLinear(4, 2, blocks=2)(torch.ones(3, 4, dtype=torch.int64))


def test_under_autocast_a_layer_stays_near_float32():
    mlp, x = MLP(32, units=48, layers=2), torch.randn(5, 32)
    blocks = BlockLinear(48, 64, blocks=4)
    exact = blocks(mlp(x))
    with torch.autocast("cpu", torch.bfloat16):
        cast = blocks(mlp(x))
    torch.testing.assert_close(cast.float(), exact, rtol=0, atol=0.05)
    assert not torch.equal(cast.float(), exact)
    exact = blocks(x, x[:, 8:12])
    with torch.autocast("cpu", torch.bfloat16):
        cast = blocks(x, x[:, 8:12])
    torch.testing.assert_close(cast.float(), exact, rtol=0, atol=0.05)
    assert cast.dtype == torch.bfloat16


def test_capture(same_when_compiled):
    module = torch.nn.Sequential(
        MLP(5, units=6, layers=2), BlockLinear(6, 8, blocks=2), RMSNorm(8), Linear(8, 7)
    )
    same_when_compiled(module, torch.randn(2, 3, 5), module=randomise(module))


# ------------------------------------------------------------------------------------- convolutions


def slow_conv(x, weight, bias, stride):
    """The "same" convolution of XLA: output `ceil(n / stride)`, odd padding after the image."""
    _, _, height, width = x.shape
    kernel = weight.shape[-1]
    out = torch.zeros(len(x), len(weight), -(-height // stride), -(-width // stride)).double()
    starts = []
    for n, m in zip((height, width), out.shape[2:], strict=True):
        starts.append(-(max((m - 1) * stride + kernel - n, 0) // 2))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            for a in range(kernel):
                for b in range(kernel):
                    row, column = starts[0] + i * stride + a, starts[1] + j * stride + b
                    if 0 <= row < height and 0 <= column < width:
                        pixel = x[:, :, row, column].double()
                        out[:, :, i, j] += pixel @ weight[:, :, a, b].T.double()
    return (out + bias[:, None, None]).float()


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_a_convolution_pads_as_xla_does(kernel, stride, size):
    conv, x = randomise(Conv2d(2, 3, kernel, stride=stride)), torch.randn(4, 2, *size)
    expected = slow_conv(x, conv.weight, conv.bias, stride)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


def test_a_stride_2_convolution_pads_one_before_and_two_after():
    conv = Conv2d(1, 1, 5, stride=2)
    torch.nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 0, 0] = 1
    assert conv(x)[0, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    x = x.flip(-1, -2)
    assert conv(x)[0, 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]]


def test_upsampling_convolution_is_nearest_then_convolution():
    up, x = randomise(UpConv2d(2, 3)), torch.randn(4, 2, 5, 7, requires_grad=True)
    plain = Conv2d(2, 3, 5)
    plain.load_state_dict(up.state_dict())
    ours, expected = up(x), plain(F.interpolate(x, scale_factor=2, mode="nearest"))
    assert ours.shape == (4, 3, 10, 14)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(ours)
    gradients = [
        torch.autograd.grad((out * weight).sum(), (x, conv.weight, conv.bias))
        for out, conv in ((ours, up), (expected, plain))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


def off_by(ours, expected):
    """The largest error of each array relative to its largest entry."""
    return max(
        ((a.double() - b).abs().max() / b.abs().max()).item()
        for a, b in zip(ours, expected, strict=True)
    )


def convolved(x, weight, bias, convolve):
    """A convolution, all its gradients, and a second derivative."""
    leaves = [leaf.detach().requires_grad_() for leaf in (x, weight, bias) if leaf is not None]
    out = convolve(*leaves, *[None] * (bias is None))
    total = (out * slope_of(out)).sum()
    gradients = torch.autograd.grad(total, leaves, retain_graph=True)
    again = torch.autograd.grad(total, leaves, create_graph=True)
    (twice,) = torch.autograd.grad(again[0].square().sum(), leaves[1])
    return out, *gradients, *again, twice


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize(("into", "out"), [(1, 7), (3, 13), (11, 4), (11, 13), (8, 9), (9, 8)])
@pytest.mark.parametrize("width", [10, 11])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_convolution_of_few_channels_is_a_convolution(side, into, out, width, has_bias):
    """Few to few, few to many, many to few channels; with and without the image gradient."""
    x, weight = torch.randn(4, into, 6, width), torch.randn(out, into, side, side)
    same = functools.partial(F.conv2d, padding="same")
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        bias = torch.randn(out) if has_bias else None
        exact = [leaf if leaf is None else leaf.double() for leaf in (image, weight, bias)]
        ours = convolved(image, weight, bias, same_conv2d)
        assert off_by(ours, convolved(*exact, same)) < 1e-6
        weight.requires_grad_()
        alone = same_conv2d(image, weight, bias)
        assert off_by([alone], ours[:1]) < 1e-6
        (gradient,) = torch.autograd.grad((alone * slope_of(alone)).sum(), weight)
        assert off_by([gradient], ours[2:3]) < 1e-6
        weight = weight.detach()


def slope_of(x):
    return torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)


def test_a_convolution_of_few_channels_twice_with_a_second_derivative():
    """The second image also depends on the kernel, whose gradient must be counted once."""
    found = []
    for dtype, convolve in ((torch.float32, same_conv2d), (torch.float64, F.conv2d)):
        torch.manual_seed(0)
        x, weight = torch.randn(2, 4, 6, 8), torch.randn(4, 4, 3, 3)
        x = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        weight = weight.to(dtype).requires_grad_()
        rest = [None] if convolve is same_conv2d else [None, 1, 1]
        out = convolve(convolve(x, weight, *rest).sin(), weight, *rest).relu_()
        first = torch.autograd.grad(out.square().sum(), (x, weight), create_graph=True)
        total = sum(gradient.square().sum() for gradient in first)
        found.append((*first, *torch.autograd.grad(total, (x, weight))))
    assert off_by(*found) < 1e-5


@pytest.mark.parametrize(
    "trained", [(True, False, False), (True, False, True), (True, True, False)]
)
@pytest.mark.parametrize("batch", [0, 3])
def test_a_convolution_of_few_channels_some_of_it_frozen(trained, batch):
    sizes = (batch, 6, 8, 3), (11, 3, 5, 5), (11,)
    leaves = [torch.randn(n).requires_grad_(bool(t)) for n, t in zip(sizes, trained, strict=True)]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    results = []
    for convolve in (same_conv2d, functools.partial(F.conv2d, padding=2)):
        out = convolve(leaves[0].permute(0, 3, 1, 2), *leaves[1:])
        results.append([out, *torch.autograd.grad((out * slope_of(out)).sum(), wanted)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_convolution_of_few_channels_under_functional_transforms():
    x, weight = torch.randn(5, 2, 3, 6, 8), torch.randn(4, 3, 3, 3)
    each = torch.func.vmap(lambda image: same_conv2d(image, weight, None))(x)
    torch.testing.assert_close(each.flatten(0, 1), same_conv2d(x.flatten(0, 1), weight, None))
    slope = torch.func.grad(lambda image: same_conv2d(image, weight, None).sin().sum())(x[0])
    image = x[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(same_conv2d(image, weight, None).sin().sum(), image)
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-5)


def test_a_convolution_of_few_channels_leaves_autocast_to_pytorch():
    x, weight = torch.randn(2, 3, 4, 6, requires_grad=True), torch.randn(5, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = same_conv2d(x, weight, None)
        assert torch.equal(out, F.conv2d(x, weight, padding=1))
    out.float().sum().backward()
    assert x.grad.dtype is torch.float32


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_a_pooled_convolution_is_a_convolution_then_max_pool(channels):
    conv, x = randomise(PooledConv2d(channels, 7)), torch.randn(4, channels, 6, 10)
    plain = Conv2d(channels, 7, 5).double()
    plain.load_state_dict(conv.state_dict())
    results = []
    for module, input in ((conv, x), (plain, x.double())):
        input.requires_grad_()
        out = module(input)
        out = out if module is conv else F.max_pool2d(out, 2)
        gradients = torch.autograd.grad((out * slope_of(out)).sum(), (input, *module.parameters()))
        results.append((out, *gradients))
    assert off_by(*results) < 1e-6
    assert results[0][0].shape == (4, 7, 3, 5)


def test_of_equal_pixels_the_first_takes_the_gradient():
    """In reading order, as in `F.max_pool2d`; visible from the inputs of that pixel."""
    conv = PooledConv2d(1, 1)
    conv.weight.data = torch.zeros(1, 1, 5, 5)
    conv.weight.data[0, 0, 2, 2] = 1
    for values in itertools.product((0.0, 1.0), repeat=4):
        image = torch.tensor(values).view(1, 1, 2, 2).requires_grad_()
        (ours,) = torch.autograd.grad(conv(image).sum(), image)
        (expected,) = torch.autograd.grad(F.max_pool2d(image, 2).sum(), image)
        assert torch.equal(ours, expected), values


def test_a_second_derivative_through_two_steps_of_one_layer():
    """The second input depends on the scale of the first step, to be counted once."""
    layer, found = randomise(Layer(6, 6)), []

    def plain(x):
        x = F.linear(x, *exact.linear.parameters())
        root = (x.square().mean(-1, keepdim=True) + layer.norm.eps).rsqrt()
        return F.silu(x * root * exact.norm.scale)

    exact, x = copy.deepcopy(layer).double(), torch.ones(3, 6)
    for module, out in ((layer, layer(layer(x))), (exact, plain(plain(x.double())))):
        parameters = list(module.parameters())
        first = torch.autograd.grad(out.square().sum(), parameters, create_graph=True)
        total = sum(gradient.square().sum() for gradient in first)
        found.append((*first, *torch.autograd.grad(total, parameters)))
    assert off_by(*found) < 1e-5


@pytest.mark.parametrize("shape", [(5, 40), (2, 3, 64), (40, 8), (3, 7, 5, 12), (1, 3)])
def test_norm_and_silu_in_one_function(shape):
    """Values and both gradients for wide, narrow and non-contiguous rows."""
    norm = randomise(RMSNorm(shape[-1]))
    exact = copy.deepcopy(norm).double()
    weight = torch.linspace(-1, 1, math.prod(shape), dtype=torch.float64).view(shape)
    base = torch.randn(shape)
    for x in (base, base.transpose(0, 1).contiguous().transpose(0, 1)):
        wide = x.double().requires_grad_()
        rms = (wide.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        expected = F.silu(wide / rms * exact.scale)
        expected = (expected, *torch.autograd.grad((expected * weight).sum(), (wide, exact.scale)))
        x = x.clone().requires_grad_()
        ours = norm.silu(x)
        with torch.no_grad():
            torch.testing.assert_close(norm.silu(x), ours.detach(), rtol=0, atol=0)
        ours = (ours, *torch.autograd.grad((ours * weight.float()).sum(), (x, norm.scale)))
        assert off_by(ours, expected) < 1e-6


@pytest.mark.parametrize("size", [16, 64])
def test_the_norm_of_a_row_does_not_depend_on_its_neighbours(size):
    """To the bit, so that the loss recomputes exactly the policy that imagination sampled from."""
    norm, x = randomise(RMSNorm(size)), torch.randn(40, 7, size)
    whole = norm.silu(x)
    with torch.no_grad():
        for t in range(7):
            assert torch.equal(norm.silu(x[:, t]), whole[:, t])


def test_norm_and_silu_in_another_dtype_are_one_after_the_other():
    norm, x = randomise(RMSNorm(6)), torch.randn(3, 6, dtype=torch.bfloat16)
    assert torch.equal(norm.silu(x), F.silu(norm(x)))
    with pytest.raises(ValueError, match=r"input of RMSNorm should be 6 wide .* \(3, 5\)"):
        norm.silu(torch.zeros(3, 5))


def penalty(function, parameters, x):
    """Gradients of a squared gradient, as in a gradient penalty."""
    (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), [x, *parameters], allow_unused=True)


def test_norm_and_silu_can_be_differentiated_twice():
    norm, x = randomise(RMSNorm(6)), torch.randn(3, 6, requires_grad=True)
    ours = penalty(norm.silu, [norm.scale], x)
    plain = penalty(lambda x: torch.nn.functional.silu(norm(x)), [norm.scale], x)
    for found, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_norm_and_silu_under_functional_transforms():
    layer, x = randomise(Layer(4, 5)), torch.randn(3, 4)
    (expected,) = torch.autograd.grad(layer(leaf := x.clone().requires_grad_()).sum(), leaf)
    one = torch.func.grad(lambda row: layer(row).sum())
    torch.testing.assert_close(torch.func.vmap(one)(x), expected, rtol=1e-4, atol=1e-5)


def test_a_convolution_takes_a_batch_of_images():
    for conv in (Conv2d(2, 3, 5), PooledConv2d(2, 3), UpConv2d(2, 3)):
        for shape in ((2, 8, 8), (1, 3, 8, 8)):
            message = rf"{type(conv).__name__} takes images \(batch, 2, height, width\), got shape"
            with pytest.raises(ValueError, match=message):
                conv(torch.zeros(shape))


@pytest.mark.parametrize(("kernel", "stride"), [(5, 0), (0, 1), (2, 3)])
def test_a_transposed_convolution_reaches_every_pixel(kernel, stride):
    message = f"kernel at least as large, got stride {stride} and kernel {kernel}"
    with pytest.raises(ValueError, match=message):
        ConvTranspose2d(2, 3, kernel, stride=stride)


@pytest.mark.parametrize("kernel", [3, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("sides", [(8, 12), (10, 6), (9, 8)])
def test_a_halving_convolution_has_the_gradients_of_a_padded_one(kernel, sides):
    conv = randomise(Conv2d(3, 4, kernel, stride=2))
    x, grads = torch.randn(2, 3, *sides), []
    for image in (x.clone().requires_grad_(), x.double().requires_grad_()):
        out = conv(image) if image.dtype == torch.float32 else conv.double()(image)
        out.square().sum().backward()
        grads.append([g.float() for g in (out, image.grad, conv.weight.grad, conv.bias.grad)])
        conv.zero_grad()
    for ours, expected in zip(*grads, strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_spreads_then_convolves(stride):
    conv, x = randomise(ConvTranspose2d(2, 3, 5, stride=stride)), torch.randn(4, 2, 5, 7)
    big = torch.zeros(4, 2, 5 * stride, 7 * stride)
    first = 1 if stride > 1 else 0
    big[:, :, first::stride, first::stride] = x
    expected = slow_conv(big, conv.weight, conv.bias, 1)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


def test_channel_norm_is_a_norm_of_each_pixel():
    norm, x = randomise(ChannelNorm(3)), torch.randn(2, 3, 5, 7)
    pixel = norm.norm(x[1, :, 4, 6])
    torch.testing.assert_close(norm(x)[1, :, 4, 6], pixel * pixel.sigmoid())
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


def test_capture_of_convolutions(same_when_compiled):
    module = torch.nn.Sequential(
        Conv2d(2, 3, 5, stride=2),
        ChannelNorm(3),
        UpConv2d(3, 4),
        ConvTranspose2d(4, 2, 3, stride=2),
    )
    same_when_compiled(module, torch.randn(3, 2, 6, 10), module=module, by_entry=False)

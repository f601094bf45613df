import math

import pytest
import torch

from worldblocks.distributions import (
    MSE,
    ImageMSE,
    SigmoidImageL1,
    SigmoidImageMSE,
    SymlogMSE,
)


def test_mse_by_hand():
    mean, target = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert MSE(mean).nll(target).tolist() == [[1, 4], [0, 9]]
    assert MSE(mean, event=1).nll(target).tolist() == [5, 9]
    assert MSE(mean, event=2).nll(target).item() == 14


def test_the_gradient_of_a_squared_error():
    mean = torch.tensor([1.0, 2.0], requires_grad=True)
    MSE(mean, event=1).nll(torch.tensor([0.0, 4.0])).backward()
    assert mean.grad.tolist() == [2, -4]


def test_symlog_mse_by_hand():
    output = SymlogMSE(torch.tensor([1.0, 0.5]), event=1)
    target = torch.tensor([math.e - 1, 1 - math.e])
    assert output.nll(target).item() == pytest.approx(1.5**2)
    assert output.mean.tolist() == [1, 0.5], "the mean stays in symlog space"


def test_integers_are_targets_too():
    assert MSE(torch.tensor([1.5])).nll(torch.tensor([2])).tolist() == [0.25]
    assert SymlogMSE(torch.tensor([0.0])).nll(torch.tensor([0])).tolist() == [0]


def test_image_mse_by_hand():
    mean = torch.zeros(5, 2, 3, 1)
    pixels = torch.zeros(5, 2, 3, 1, dtype=torch.uint8)
    pixels[1, 0, 0] = 255
    pixels[2] = 51
    losses = ImageMSE(mean).nll(pixels)
    torch.testing.assert_close(losses, torch.tensor([0, 1, 6 * 0.04, 0, 0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_an_image_target_is_uint8(dtype):
    with pytest.raises(TypeError, match=f"an image target must be uint8 in 0…255, got {dtype}"):
        ImageMSE(torch.zeros(5, 2, 3, 1)).nll(torch.zeros(5, 2, 3, 1, dtype=dtype))


def test_a_sigmoid_image_is_the_image_of_its_sigmoid():
    """In values and gradients, with a different weight per image."""
    logit = torch.randn(2, 3, 4, 6, 3, dtype=torch.float64, requires_grad=True)
    pixels = torch.randint(256, logit.shape, dtype=torch.uint8)
    weight = torch.randn(2, 3, dtype=torch.float64)
    exact = (logit.sigmoid() - pixels.double() / 255).square().sum((-3, -2, -1))
    (expected,) = torch.autograd.grad((exact * weight).sum(), logit)
    ours = logit.detach().float().requires_grad_()
    output = SigmoidImageMSE(ours)
    (gradient,) = torch.autograd.grad((output.nll(pixels) * weight).sum(), ours)
    torch.testing.assert_close(output.nll(pixels).double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(output[1].nll(pixels[1]), output.nll(pixels)[1])
    assert torch.equal(output.mean, ours.sigmoid())


@pytest.mark.parametrize("kind", [SigmoidImageMSE, SigmoidImageL1])
def test_a_sigmoid_image_refuses_what_an_image_refuses(kind):
    output = kind(torch.zeros(5, 2, 3, 1))
    with pytest.raises(TypeError, match="an image target must be uint8"):
        output.nll(torch.zeros(5, 2, 3, 1))
    with pytest.raises(ValueError, match=r"shape \(5, 2, 3, 1\) was given .* \(2, 3, 1\)"):
        output.nll(torch.zeros(2, 3, 1, dtype=torch.uint8))


def test_extremes():
    big = torch.tensor([1e30, -1e30])
    assert SymlogMSE(torch.zeros(2)).nll(big).tolist() == pytest.approx([69.0775528**2] * 2)
    assert MSE(torch.zeros(2)).nll(1e-10 * big / 1e10).isfinite().all()
    losses = MSE(torch.zeros(2)).nll(torch.tensor([math.nan, 1]))
    assert losses.isnan().tolist() == [True, False]


def test_many_images_are_many_pieces():
    logit, target = torch.randn(9, 64, 64, 3), torch.randint(256, (9, 64, 64, 3)).byte()
    expected = ImageMSE(logit.sigmoid()).nll(target)
    torch.testing.assert_close(SigmoidImageMSE(logit).nll(target), expected)


def test_a_second_derivative_is_refused():
    logit = torch.zeros(1, 2, 2, 1, requires_grad=True)
    loss = SigmoidImageMSE(logit).nll(torch.zeros(1, 2, 2, 1).byte())
    with pytest.raises(RuntimeError, match=r"nll has no second .* ImageMSE\(output.mean\).* has"):
        torch.autograd.grad(loss, logit, create_graph=True)

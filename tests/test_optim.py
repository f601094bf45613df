import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from worldblocks.optim import (
    LaProp,
    adaptive_gradient_clip,
    dreamer_optimizer,
    remove_parameters,
    warmup,
)

seeds = st.integers(0, 2**32 - 1)


def parameter(*values, grad=None):
    p = nn.Parameter(torch.tensor(values))
    p.grad = None if grad is None else torch.tensor(grad)
    return p


def slow_laprop(p, grads, lr, betas, eps, warmup, weight_decay):
    """One tensor, one line of the paper at a time, in float64."""
    p, m, v = p.double(), 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        v = betas[1] * v + (1 - betas[1]) * g.double() ** 2
        u = g.double() / ((v / (1 - betas[1] ** t)).sqrt() + eps)
        m = betas[0] * m + (1 - betas[0]) * u
        rate = lr * min(1, (t - 1) / warmup) if warmup else lr
        p = p - rate * (m / (1 - betas[0] ** t) + weight_decay * p)
    return p.float()


# --------------------------------------------------------------------------------------------- clip


def test_clip_by_hand():
    """|p| = 5, |g| = 50: the limit is 0.3 · 5, so g is divided by 100 / 3."""
    p = parameter(3.0, 4.0, grad=[30.0, 40.0])
    adaptive_gradient_clip([p], 0.3)
    torch.testing.assert_close(p.grad, torch.tensor([0.9, 1.2]))


def test_a_small_gradient_is_left_alone():
    p = parameter(3.0, 4.0, grad=[0.9, -0.2])
    adaptive_gradient_clip([p], 0.3)
    assert torch.equal(p.grad, torch.tensor([0.9, -0.2]))


def test_a_tensor_of_zeros_may_receive_the_floor():
    p = parameter(0.0, 0.0, grad=[3.0, 4.0])
    adaptive_gradient_clip([p], 0.3)
    assert p.grad.norm().item() == pytest.approx(3e-4)


@given(seeds, st.floats(0.01, 1))
def test_the_norm_is_limited_for_each_tensor_alone_and_the_direction_kept(seed, clip):
    generator = torch.Generator().manual_seed(seed)
    params = [nn.Parameter(torch.randn(n, generator=generator)) for n in (3, 5, 7)]
    for size, p in zip((1e-3, 1.0, 1e3), params, strict=True):
        p.grad = size * torch.randn(len(p), generator=generator)
    before = [p.grad.clone() for p in params]
    adaptive_gradient_clip(params, clip)
    for p, old in zip(params, before, strict=True):
        limit = clip * max(p.norm().item(), 1e-3)
        expected = old * min(1, limit / old.norm().item())
        torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-8)


def test_clip_skips_what_has_no_gradient():
    adaptive_gradient_clip([], 0.3)
    adaptive_gradient_clip([parameter(1.0)], 0.3)
    adaptive_gradient_clip(iter([parameter(1.0, grad=[1.0]), parameter(1.0)]), 0.3)


def test_clip_of_extreme_gradients():
    p = parameter(3.0, 4.0, grad=[1e18, 1e18])
    adaptive_gradient_clip([p], 0.3)
    assert p.grad.norm().item() == pytest.approx(1.5)
    p = parameter(3.0, 4.0, grad=[1e-30, 0.0])
    adaptive_gradient_clip([p], 0.3)
    assert p.grad.tolist() == pytest.approx([1e-30, 0], rel=1e-6)


@pytest.mark.parametrize("clip", [0, -0.3])
def test_an_impossible_clip(clip):
    with pytest.raises(ValueError, match=f"needs a positive clip, got {clip}"):
        adaptive_gradient_clip([parameter(1.0)], clip)


def test_clip_serves_any_optimiser():
    p = parameter(3.0, 4.0, grad=[30.0, 40.0])
    optimizer = torch.optim.SGD([p], lr=1.0)
    adaptive_gradient_clip([p], 0.3)
    optimizer.step()
    torch.testing.assert_close(p.data, torch.tensor([2.1, 2.8]))


# ------------------------------------------------------------------------------------------ warm-up


def test_warmup_of_any_optimiser():
    p = parameter(0.0)
    optimizer = torch.optim.SGD([p], lr=1.0)
    schedule, moves = warmup(optimizer, 4), []
    for _ in range(6):
        before, p.grad = p.item(), torch.ones(1)
        optimizer.step()
        schedule.step()
        moves.append(before - p.item())
    assert moves == [0, 0.25, 0.5, 0.75, 1, 1]


def test_no_warmup():
    assert warmup(torch.optim.SGD([parameter(0.0)], lr=2.0), 0).get_last_lr() == [2.0]
    with pytest.raises(ValueError, match="warmup needs steps >= 0, got -1"):
        warmup(torch.optim.SGD([parameter(0.0)], lr=2.0), -1)


# ------------------------------------------------------------------------------------------- LaProp


def test_the_first_update_moves_by_the_learning_rate():
    """u = g / |g|, m = u: every entry with a gradient moves by lr against its sign."""
    p = parameter(1.0, 1.0, 1.0, grad=[5.0, -0.001, 0.0])
    LaProp([p], lr=0.1).step()
    torch.testing.assert_close(p.data, torch.tensor([0.9, 1.1, 1.0]))


def test_the_second_update_by_hand():
    """betas (1/2, 1/2), gradients 1 then 3: v = 19/4 / (3/4)·…, from the equations."""
    p = parameter(0.0)
    optimizer = LaProp([p], lr=1.0, betas=(0.5, 0.5))
    for gradient in (1.0, 3.0):
        p.grad = torch.tensor([gradient])
        optimizer.step()
    second = 3 / math.sqrt((0.25 + 4.5) / 0.75)
    assert p.item() == pytest.approx(-1 - (0.25 + 0.5 * second) / 0.75)


@given(
    seeds,
    st.sampled_from([0, 1, 3]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)]),
)
def test_it_is_the_slow_loop(seed, warmup, weight_decay, betas):
    generator = torch.Generator().manual_seed(seed)
    start, *grads = torch.randn(6, 3, generator=generator)
    settings = {"lr": 0.1, "betas": betas, "eps": 1e-8, "weight_decay": weight_decay}
    p = nn.Parameter(start.clone())
    optimizer = LaProp([p], **settings, warmup=warmup)
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    expected = slow_laprop(start, grads, warmup=warmup, **settings)
    torch.testing.assert_close(p.data, expected, rtol=1e-4, atol=1e-5)


@given(seeds, st.sampled_from([1e-12, 1e12]))
def test_the_scale_of_gradients_does_not_matter(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    grads = torch.randn(4, 3, generator=generator)
    ends = []
    for factor in (1.0, scale):
        p = parameter(1.0, 2.0, 3.0)
        optimizer = LaProp([p], lr=0.1)
        for g in grads:
            p.grad = factor * g
            optimizer.step()
        ends.append(p.data)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-5)


def test_with_warmup_the_first_update_changes_nothing():
    p = parameter(1.0, 2.0, grad=[3.0, 4.0])
    optimizer = LaProp([p], lr=0.1, warmup=10, weight_decay=0.1)
    optimizer.step()
    assert p.tolist() == [1, 2]
    optimizer.step()
    assert p.tolist() != [1, 2]


def test_a_parameter_may_join_late_or_pause():
    """Bias corrections count the updates of each parameter: it moves as if it were alone."""
    early, late = parameter(1.0), parameter(1.0)
    optimizer = LaProp([early, late], lr=0.1)
    grads = torch.randn(6)
    for t, g in enumerate(grads):
        early.grad = g.view(1).clone()
        late.grad = g.view(1).clone() if t in (3, 5) else None
        optimizer.step()
    alone = parameter(1.0)
    lonely = LaProp([alone], lr=0.1)
    for t in (3, 5):
        alone.grad = grads[t].view(1).clone()
        lonely.step()
    torch.testing.assert_close(late.data, alone.data)


def test_groups_have_their_own_settings():
    fast, slow = parameter(1.0, grad=[1.0]), parameter(1.0, grad=[1.0])
    LaProp([{"params": [fast]}, {"params": [slow], "lr": 0.01}], lr=0.1).step()
    assert (fast.item(), slow.item()) == pytest.approx((0.9, 0.99))


def test_it_clips_as_the_function_does():
    inside, outside = (parameter(3.0, 4.0, grad=[30.0, 1.0]) for _ in range(2))
    adaptive_gradient_clip([outside], 0.3)
    LaProp([inside], lr=0.1, agc=0.3).step()
    torch.testing.assert_close(inside.grad, outside.grad)


def test_the_dreamer_chain():
    group = dreamer_optimizer([parameter(1.0)]).param_groups[0]
    expected = {"lr": 4e-5, "betas": (0.9, 0.999), "eps": 1e-20, "agc": 0.3, "warmup": 1000}
    assert {key: group[key] for key in expected} == expected
    assert group["weight_decay"] == 0


def test_a_resumed_optimiser_continues_bitwise():
    def train(p, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            p.grad = torch.randn(3, generator=generator)
            optimizer.step()

    first = parameter(1.0, 2.0, 3.0)
    optimizer = LaProp([first], lr=0.1, agc=0.3, warmup=5)
    train(first, optimizer, 0)
    second = nn.Parameter(first.detach().clone())
    resumed = LaProp([second], lr=0.1, agc=0.3, warmup=5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(first, optimizer, 1)
    train(second, resumed, 1)
    assert torch.equal(first, second)


def test_a_closure_is_called_with_gradients_on():
    p = parameter(2.0)

    def closure():
        loss = p.square().sum()
        p.grad = torch.autograd.grad(loss, p)[0]
        return loss

    assert LaProp([p], lr=0.1).step(closure) == 4
    assert p.item() == pytest.approx(1.9)


def test_it_finds_a_minimum():
    p = parameter(3.0, -2.0)
    optimizer = LaProp([p], lr=0.05, betas=(0.9, 0.99))
    for _ in range(300):
        p.grad = 2 * (p.detach() - torch.tensor([1.0, 1.0]))
        optimizer.step()
    torch.testing.assert_close(p.data, torch.ones(2), rtol=0, atol=0.1)


def test_zero_gradients_and_nans():
    p = parameter(1.0, 2.0, grad=[0.0, 0.0])
    optimizer = LaProp([p], lr=0.1)
    optimizer.step()
    assert p.tolist() == [1, 2]
    p.grad = torch.tensor([math.nan, 0.0])
    optimizer.step()
    assert p.isnan().tolist() == [True, False]


def test_a_learning_rate_may_be_a_tensor():
    """It can be changed at any time, and a state is loaded into the existing tensors."""
    ours, theirs = parameter(1.0, 2.0, 3.0), parameter(1.0, 2.0, 3.0)
    rate = torch.tensor(0.1)
    chains = [LaProp([ours], lr=rate, warmup=2), LaProp([theirs], lr=0.1, warmup=2)]
    for value in (0.1, 0.1, 0.3):
        rate.fill_(value)
        chains[1].param_groups[0]["lr"] = value
        for p, chain in zip((ours, theirs), chains, strict=True):
            p.grad = torch.tensor([1.0, -2.0, 5.0])
            chain.step()
    torch.testing.assert_close(ours, theirs)
    places = [x.data_ptr() for x in [rate, *chains[0].state[ours].values()]]
    chains[0].load_state_dict(copy.deepcopy(chains[1].state_dict()))
    group, state = chains[0].param_groups[0], chains[0].state[ours]
    assert [x.data_ptr() for x in [group["lr"], *state.values()]] == places
    assert rate.item() == pytest.approx(0.3)
    for name, value in chains[1].state[theirs].items():
        assert torch.equal(state[name], value)


def test_a_state_of_before_the_first_update_may_be_loaded():
    p = parameter(1.0, grad=[1.0])
    optimizer = LaProp([p], lr=0.1)
    fresh = copy.deepcopy(optimizer.state_dict())
    optimizer.step()
    optimizer.load_state_dict(fresh)
    assert [x.sum().item() for x in optimizer.state[p].values()] == [0, 0, 0]
    optimizer.step()
    assert p.item() == pytest.approx(0.8, abs=1e-5)


def test_a_parameter_without_a_gradient_has_no_state_after_resuming_either():
    trained, idle = parameter(1.0, grad=[1.0]), parameter(2.0)
    optimizer = LaProp([trained, idle], lr=0.1)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = LaProp([trained, idle], lr=0.1)
    resumed.load_state_dict(saved)
    assert list(resumed.state_dict()["state"]) == list(saved["state"]) == [0]


def test_a_learning_rate_on_another_device():
    match = "LaProp got lr as a tensor on meta for parameters on cpu; use a tensor on cpu, or a"
    with pytest.raises(ValueError, match=match):
        LaProp([{"params": [parameter(1.0)], "lr": torch.tensor(0.1, device="meta")}])


@pytest.mark.parametrize(
    "setting", [{"lr": -1}, {"agc": -0.3}, {"warmup": -1}, {"eps": -1e-8}, {"weight_decay": -0.1}]
)
def test_negative_settings(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"LaProp needs {name} >= 0, got {value}"):
        LaProp([parameter(1.0)], **setting)


@pytest.mark.parametrize("betas", [(1.0, 0.999), (0.9, 1.0), (-0.1, 0.5)])
def test_impossible_betas(betas):
    with pytest.raises(ValueError, match=r"LaProp needs betas in \[0, 1\), got"):
        LaProp([parameter(1.0)], betas=betas)


def test_capture():
    """Three compiled updates equal three eager ones."""
    eager, compiled = parameter(1.0, 2.0, 3.0), parameter(1.0, 2.0, 3.0)
    chains = [LaProp([p], lr=0.1, agc=0.3, warmup=2) for p in (eager, compiled)]
    torch.compiler.reset()
    plain = chains[1].step
    steps = [chains[0].step, torch.compile(plain, fullgraph=True, backend="aot_eager")]
    for t in range(3):
        for p, step in zip((eager, compiled), steps, strict=True):
            p.grad = torch.tensor([1.0, -2.0, 50.0]) * (t + 1)
            step()
    torch.testing.assert_close(compiled, eager)


def test_nothing_is_read_back_to_the_host():
    """On meta tensors, where reading a value would fail."""
    p = nn.Parameter(torch.ones(3, device="meta"))
    p.grad = torch.ones(3, device="meta")
    optimizer = dreamer_optimizer([p])
    for _ in range(3):
        optimizer.step()


def test_a_loaded_state_lies_where_the_parameters_do():
    """The counts too: on the host they would be constants in a captured graph."""
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    saved = LaProp([p])
    saved.step()
    elsewhere = LaProp([nn.Parameter(torch.ones(3, device="meta"))])
    elsewhere.load_state_dict(saved.state_dict())
    (state,) = elsewhere.state.values()
    assert {tensor.device.type for tensor in state.values()} == {"meta"}


def test_parameters_that_leave_take_their_memory_along():
    """The remaining parameters take the same steps as before."""
    ends = []
    for leaves in (False, True):
        torch.manual_seed(0)
        stays, goes = (nn.Parameter(torch.randn(3)) for _ in range(2))
        optimizer = LaProp([{"params": [goes]}, {"params": [stays]}], lr=0.1, agc=0.3)
        for step in range(4):
            stays.grad, goes.grad = torch.full((3,), 1.0 + step), torch.ones(3)
            if leaves and step == 2:
                remove_parameters(optimizer, [goes])
                assert len(optimizer.param_groups) == len(optimizer.state) == 1
            optimizer.step()
        ends.append(stays.detach())
    assert torch.equal(*ends)


def test_parameters_that_were_never_there():
    optimizer = LaProp([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="1 of 1 parameters are not in this optimiser, which h"):
        remove_parameters(optimizer, [nn.Parameter(torch.zeros(1))])

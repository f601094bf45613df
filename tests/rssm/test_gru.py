import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_norm import slow_norm
from torch import nn

from worldblocks.rssm import GRU

DETER, STOCH, ACTION, HIDDEN = 12, 10, 5, 7
NORMS = {
    "RMSNorm": lambda: None,
    "LayerNorm": lambda: nn.LayerNorm(3 * DETER),
    "none": nn.Identity,
}


def core(norm=None):
    module = GRU(deter=DETER, stoch=STOCH, action_dim=ACTION, hidden=HIDDEN, norm=norm)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(batch=2):
    return torch.randn(batch, DETER), torch.randn(batch, STOCH), torch.randn(batch, ACTION)


def after(module, deter, stoch, action):
    """The deterministic state after an action."""
    return module.step(deter, stoch, module.project_action(action))[0]


def slow_step(core, deter, stoch, action):
    """The equations of DreamerV2 for one row, one gate at a time, in float64."""
    deter, stoch, action = (x.double() for x in (deter, stoch, action))
    action = torch.tensor([a / max(1.0, abs(a)) for a in action.tolist()], dtype=torch.float64)
    linear, norm = core.input.linear, core.input.norm
    x = linear.weight.double() @ torch.cat([stoch, action]) + linear.bias.double()
    x = slow_norm(norm, x)
    x = x * x.sigmoid()
    gates = core.gates.weight.double() @ torch.cat([deter, x]) + core.gates.bias.double()
    gates = slow_norm(core.norm, gates)
    reset, cand, update = gates[:DETER], gates[DETER : 2 * DETER], gates[2 * DETER :]
    candidate = torch.tanh(reset.sigmoid() * cand)
    update = (update - 1).sigmoid()
    return (update * candidate + (1 - update) * deter).float()


def test_gates_by_hand():
    """With all gate weights 0 the biases decide: u = σ(b - 1), c = tanh(σ(b_r) b_c)."""
    module, (deter, stoch, action) = core(nn.Identity()), inputs()
    module.gates.weight.data.zero_()
    reset, cand, update = torch.randn(3, DETER)
    module.gates.bias.data = torch.cat([reset, cand, update])
    u, c = (update - 1).sigmoid(), torch.tanh(reset.sigmoid() * cand)
    torch.testing.assert_close(after(module, deter, stoch, action), u * c + (1 - u) * deter)


def test_a_fresh_core_forgets_27_per_cent():
    module = GRU(deter=DETER, stoch=STOCH, action_dim=ACTION, hidden=HIDDEN)
    module.gates.weight.data.zero_()
    deter, stoch, action = inputs()
    torch.testing.assert_close(
        after(module, deter, stoch, action), 0.731059 * deter, rtol=1e-5, atol=1e-6
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(NORMS)))
def test_it_is_the_equations(seed, norm):
    torch.manual_seed(seed)
    module, (deter, stoch, action) = core(NORMS[norm]()), inputs()
    ours = after(module, deter, stoch, 2 * action)
    expected = slow_step(module, deter[1], stoch[1], 2 * action[1])
    torch.testing.assert_close(ours[1], expected, rtol=1e-4, atol=1e-5)


def test_it_is_the_gru_of_torch_but_for_where_the_reset_gate_stands():
    """Without norm and with an open reset gate the two cells are one, and so is their update."""
    module, cell = core(nn.Identity()), nn.GRUCell(HIDDEN, DETER)
    weight, bias = module.gates.weight.data, module.gates.bias.data
    for part in (weight, bias):
        part[:DETER] = 0.0
    bias[:DETER] = 99.0  # reset: 1
    reset, cand, update = weight.split(DETER)
    # Torch: r, z, n with h' = (1 - z) n + z h: z is 1 - u, whose argument is -(update - 1).
    of_deter, of_x = zip(
        *((w[:, :DETER], w[:, DETER:]) for w in (reset, -update, cand)), strict=True
    )
    cell.weight_hh.data, cell.weight_ih.data = torch.cat(of_deter), torch.cat(of_x)
    b_reset, b_cand, b_update = bias.split(DETER)
    cell.bias_hh.data = torch.zeros(3 * DETER)
    cell.bias_ih.data = torch.cat([b_reset, 1 - b_update, b_cand])
    deter, stoch, action = inputs()
    x = module.input.activate(module.input.linear(torch.cat([stoch, action.clamp(-1, 1)], -1)))
    torch.testing.assert_close(
        after(module, deter, stoch, action), cell(x, deter), rtol=1e-4, atol=1e-5
    )


def test_the_state_stays_bounded():
    module, (deter, stoch, action) = core(), inputs()
    deter = deter.clamp(-1, 1)
    for _ in range(50):
        deter = after(module, deter, stoch, 1e30 * action)
    assert (deter.abs() <= 1).all()


def test_the_gradient_of_a_large_action_keeps_its_direction():
    module, action = core(), torch.tensor([[0.5, -1.0, 3.0, -40.0, 0.0]], requires_grad=True)
    boxed = torch.tensor([[0.5, -1.0, 1.0, -1.0, 0.0]], requires_grad=True)
    grads = [torch.autograd.grad(module.project_action(x).sum(), x)[0] for x in (action, boxed)]
    torch.testing.assert_close(grads[0], grads[1] / torch.tensor([[1.0, 1, 3, 40, 1]]))


def test_rows_do_not_mix():
    module, (deter, stoch, action) = core(), inputs(3)
    whole = after(module, deter, stoch, action)
    torch.testing.assert_close(after(module, deter[1:2], stoch[1:2], action[1:2])[0], whole[1])


def test_its_memory_is_its_state():
    module, (deter, stoch, action) = core(), inputs()
    new, memory = module.step(deter, stoch, module.project_action(action))
    assert memory is new
    start = module.initial(3)
    assert (start.shape, start.count_nonzero()) == ((3, DETER), 0)
    assert module.double().initial(3).dtype == torch.float64
    assert module.to("meta").initial(3).is_meta


def test_one_parameter_for_each_tensor_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in core().named_parameters()}
    assert shapes == {
        "input.linear.weight": (HIDDEN, STOCH + ACTION),
        "input.linear.bias": (HIDDEN,),
        "input.norm.scale": (HIDDEN,),
        "gates.weight": (3 * DETER, DETER + HIDDEN),
        "gates.bias": (3 * DETER,),
        "norm.scale": (3 * DETER,),
    }


@pytest.mark.parametrize("norm", NORMS)
def test_capture(same_when_compiled, norm):
    module = core(NORMS[norm]())
    same_when_compiled(functools.partial(after, module), *inputs(), module=module)


@pytest.mark.parametrize("norm", NORMS)
def test_under_autocast_it_stays_near_float32(norm):
    module = GRU(deter=DETER, stoch=STOCH, action_dim=ACTION, hidden=32, norm=NORMS[norm]())
    rows = inputs()
    exact = after(module, *rows)
    with torch.autocast("cpu", torch.bfloat16):
        cast = after(module, *rows)
    assert cast.dtype == torch.bfloat16
    torch.testing.assert_close(cast.float(), exact, rtol=0, atol=0.05)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"action should be 5 wide \(last axis\), got .*\(2, 6\)"):
        core().project_action(torch.zeros(2, 6))

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.rssm import BlockGRU
from worldblocks.rssm.cores.gates import gated_tanh

DETER, STOCH, ACTION, HIDDEN, BLOCKS = 12, 10, 5, 7, 3


def core(layers=1):
    module = BlockGRU(
        deter=DETER, stoch=STOCH, action_dim=ACTION, hidden=HIDDEN, blocks=BLOCKS, layers=layers
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(batch=2):
    return torch.randn(batch, DETER), torch.randn(batch, STOCH), torch.randn(batch, ACTION)


def after(module, deter, stoch, action):
    """The deterministic state after an action."""
    return module.step(deter, stoch, module.project_action(action))[0]


def slow_step(core, deter, stoch, action):
    """The specification for one row, one block at a time, in float64."""

    def norm(x, scale):
        x = x / (x.square().mean() + 1e-4).sqrt() * scale.double()
        return x * x.sigmoid()

    def layer(x, part):
        linear = part.linear.weight.double() @ x + part.linear.bias.double()
        return norm(linear, part.norm.scale)

    deter, stoch, action = (x.double() for x in (deter, stoch, action))
    action = action / action.abs().clamp(min=1)
    shared = [layer(deter, core.from_deter), layer(stoch, core.from_stoch)]
    shared.append(layer(action, core.from_action))
    parts = [torch.cat([block, *shared]) for block in deter.chunk(BLOCKS)]
    for linear, rms in zip(core.hidden, core.norms, strict=True):
        mapped = [x @ w for x, w in zip(parts, linear.weight.double(), strict=True)]
        x = norm(torch.cat(mapped) + linear.bias.double(), rms.scale)
        parts = list(x.chunk(BLOCKS))
    new = []
    biases = core.gates.bias.double().chunk(BLOCKS)
    for g, old in enumerate(deter.chunk(BLOCKS)):
        reset, cand, update = (parts[g] @ core.gates.weight[g].double() + biases[g]).chunk(3)
        candidate = torch.tanh(reset.sigmoid() * cand)
        update = (update - 1).sigmoid()
        new.append(update * candidate + (1 - update) * old)
    return torch.cat(new).float()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_it_is_the_specification(seed, layers):
    torch.manual_seed(seed)
    module, (deter, stoch, action) = core(layers), inputs()
    ours = after(module, deter, stoch, 2 * action)
    expected = slow_step(module, deter[1], stoch[1], 2 * action[1])
    torch.testing.assert_close(ours[1], expected, rtol=1e-4, atol=1e-5)


def test_gates_by_hand():
    """With all gate weights 0 the biases decide: u = σ(b - 1), c = tanh(σ(b_r) b_c)."""
    module, (deter, stoch, action) = core(), inputs()
    module.gates.weight.data.zero_()
    reset, cand, update = (torch.randn(BLOCKS, DETER // BLOCKS) for _ in range(3))
    module.gates.bias.data = torch.stack([reset, cand, update], 1).flatten()
    u = (update - 1).sigmoid().flatten()
    c = torch.tanh(reset.sigmoid() * cand).flatten()
    torch.testing.assert_close(after(module, deter, stoch, action), u * c + (1 - u) * deter)


def test_a_fresh_core_forgets_27_per_cent():
    module = BlockGRU(deter=12, stoch=10, action_dim=5, hidden=7, blocks=3)
    module.gates.weight.data.zero_()
    deter, stoch, action = inputs()
    torch.testing.assert_close(
        after(module, deter, stoch, action), 0.731059 * deter, rtol=1e-5, atol=1e-6
    )


def test_the_state_stays_bounded():
    module, (deter, stoch, action) = core(), inputs()
    deter = deter.clamp(-1, 1)
    for _ in range(50):
        deter = after(module, deter, stoch, 1e30 * action)
    assert (deter.abs() <= 1).all()


def test_actions_are_scaled_into_the_unit_box_as_a_constant():
    module, action = core(), torch.tensor([[0.5, -1.0, 3.0, -40.0, 0.0]], requires_grad=True)
    boxed = torch.tensor([[0.5, -1.0, 1.0, -1.0, 0.0]], requires_grad=True)
    ours, expected = module.project_action(action), module.from_action(boxed)
    torch.testing.assert_close(ours, expected)
    (gradient,) = torch.autograd.grad(ours.sum(), action)
    (plain,) = torch.autograd.grad(expected.sum(), boxed)
    torch.testing.assert_close(gradient, plain / torch.tensor([[1.0, 1, 3, 40, 1]]))


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


def test_every_block_sees_the_whole_state():
    module, (deter, stoch, action) = core(), inputs()
    deter.requires_grad_()
    (gradient,) = torch.autograd.grad(after(module, deter, stoch, action)[:, :4].sum(), deter)
    assert gradient.ne(0).all()


def test_one_parameter_for_each_tensor_of_the_reference():
    shapes = {name: tuple(p.shape) for name, p in core(2).named_parameters()}
    assert shapes["hidden.0.weight"] == (3, 4 + 21, 4)
    assert shapes["hidden.1.weight"] == (3, 4, 4)
    assert shapes["gates.weight"] == (3, 4, 12)
    assert len(shapes) == 3 * 3 + 2 * 3 + 2


def test_blocks_must_divide():
    with pytest.raises(ValueError, match="BlockGRU needs deter divisible by 5 blocks, got 12"):
        BlockGRU(deter=12, stoch=10, action_dim=5, hidden=7, blocks=5)


def test_it_has_a_layer():
    with pytest.raises(ValueError, match="BlockGRU needs at least 1 layer before its gates, got 0"):
        BlockGRU(deter=12, stoch=10, action_dim=5, hidden=7, blocks=3, layers=0)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"action should be 5 wide \(last axis\), got .*\(2, 6\)"):
        core().project_action(torch.zeros(2, 6))


def test_capture(same_when_compiled):
    module = core(2)
    same_when_compiled(functools.partial(after, module), *inputs(), module=module)


def test_under_autocast_it_stays_near_float32():
    module, rows = BlockGRU(deter=48, stoch=10, action_dim=5, hidden=32, blocks=3), inputs()
    deter = torch.randn(2, 48)
    exact = after(module, deter, *rows[1:])
    with torch.autocast("cpu", torch.bfloat16):
        cast = after(module, deter, *rows[1:])
    torch.testing.assert_close(cast.float(), exact, rtol=0, atol=0.05)


def test_tanh_as_a_sigmoid():
    """Off by a rounding error of 1, the ends and what is no number included."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, 1e-4, 200.0, -torch.inf])])
    gate = torch.rand(len(x)) + 1e-3
    expected = (gate.double() * x.double()).tanh()
    with torch.no_grad():
        assert (gated_tanh(gate, x) - expected).abs().max() < 2e-7
        assert gated_tanh(torch.ones(1), torch.tensor([torch.nan])).isnan()
        wide = gated_tanh(gate.double(), x.double())
        assert torch.equal(wide, torch.tanh(gate.double() * x.double())), "float64 is PyTorch's"
    assert torch.equal(gated_tanh(gate, x), torch.tanh(gate * x)), "with a gradient too"

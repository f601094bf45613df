"""What every choice of a core and a latent keeps: the promises of a dynamics block."""

import functools
import math
import re

import pytest
import torch
from jaxtyping import TypeCheckError
from slow_norm import slow_norm
from torch import nn
from torch.nn.functional import softplus
from torch.utils import _pytree as pytree

import worldblocks as wb
from worldblocks.distributions import modes

DETER, GROUPS, CLASSES, EMBED, ACTION, HIDDEN = 12, 5, 4, 11, 3, 6
BATCH, TIME, STOCH = 2, 7, 8  # noise of a step in whole blocks of 16 numbers, as it is drawn

INPUTS = {"embed_dim": EMBED, "action_dim": ACTION, "deter": DETER, "hidden": HIDDEN}
ONEHOTS = {"groups": GROUPS, "classes": CLASSES}


def block_gaussian(**options):
    """A choice that has no name."""
    core = wb.rssm.BlockGRU(deter=DETER, stoch=STOCH, action_dim=ACTION, hidden=HIDDEN, blocks=3)
    sizes = {"deter": DETER, "embed_dim": EMBED, "size": STOCH, "hidden": HIDDEN}
    recompute = options.pop("recompute", 0)
    return wb.rssm.RSSM(core, wb.rssm.GaussianLatent(**sizes, **options), recompute=recompute)


dreamer = functools.partial(wb.rssm.dreamer_rssm, **INPUTS, **ONEHOTS, blocks=3)
gru = functools.partial(wb.rssm.gru_rssm, **INPUTS, **ONEHOTS)
gaussian = functools.partial(wb.rssm.gaussian_rssm, **INPUTS, stoch=STOCH)
VARIANTS = {
    "dreamer": dreamer,
    "dreamer decoupled": functools.partial(dreamer, absolute=True),
    "gru": gru,
    "gru decoupled": functools.partial(gru, absolute=True),
    "gaussian": gaussian,
    "gaussian decoupled": functools.partial(gaussian, absolute=True),
    "block gaussian": block_gaussian,
}
every = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
NEW = {name: VARIANTS[name] for name in VARIANTS if name != "dreamer"}  # has tests of its own
new = pytest.mark.parametrize("make", NEW.values(), ids=NEW)
DECOUPLED = {name: VARIANTS[name] for name in VARIANTS if "decoupled" in name}


def made(make, **options):
    module = make(**options)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def carry(module, batch=BATCH):
    """A carry as after some row."""
    start = module.initial(batch)
    return module.imagine_step(start, torch.randn(batch, ACTION)).carry.detach()


def sequence(time=TIME, batch=BATCH):
    """Embeddings, previous actions, and flags with a reset in the middle of sequence 1."""
    is_first = torch.zeros(batch, time, dtype=torch.bool)
    is_first[1, time // 2] = True
    return torch.randn(batch, time, EMBED), torch.randn(batch, time, ACTION), is_first


def leaf(x):
    return x.clone().requires_grad_()


def leaves(carry):
    return pytree.tree_map(leaf, carry)


# ---------------------------------------------------------------------------------------- equations


def slow_network(mlp, out, x):
    """Layers of linear map, norm and SiLU, then a linear map, in float64."""
    for layer in mlp:
        x = layer.linear.weight.double() @ x + layer.linear.bias.double()
        x = slow_norm(layer.norm, x)
        x = x * x.sigmoid()
    return out.weight.double() @ x + out.bias.double()


def slow_gaussian(module, start, embed, action, is_first, noise):
    """PlaNet's equations for one sequence, row by row, in float64."""
    core, latent = module.core, module.latent
    deter, stoch = (x.double() for x in start)
    rows = []
    for e, a, first, n in zip(embed.double(), action.double(), is_first, noise, strict=True):
        if first:
            deter, stoch, a = 0 * deter, 0 * stoch, 0 * a
        x = torch.cat([stoch, a / a.abs().clamp(min=1)])
        x = core.input.linear.weight.double() @ x + core.input.linear.bias.double()
        x = slow_norm(core.input.norm, x)
        x = torch.cat([deter, x * x.sigmoid()])
        gates = slow_norm(core.norm, core.gates.weight.double() @ x + core.gates.bias.double())
        reset, cand, update = gates.chunk(3)
        u = (update - 1).sigmoid()
        deter = u * torch.tanh(reset.sigmoid() * cand) + (1 - u) * deter
        seen = e if latent.absolute else torch.cat([deter, e])
        mean, raw = slow_network(latent.posterior_mlp, latent.posterior_out, seen).chunk(2)
        std = softplus(raw) + 0.1
        stoch = mean + std * n
        expected, raw = slow_network(latent.prior_mlp, latent.prior_out, deter).chunk(2)
        rows.append((deter, stoch, mean, std, expected, softplus(raw) + 0.1))
    return [torch.stack(field).float() for field in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", ["gaussian", "gaussian decoupled"])
def test_a_gaussian_rssm_is_the_equations(name):
    module, rows = made(VARIANTS[name]), sequence()
    start = carry(module)
    torch.manual_seed(1)
    states = module.observe(start, *rows)
    torch.manual_seed(1)
    noise = module.latent.noise(rows[2])
    prior = module.prior(states)
    for b in range(BATCH):
        given = [x[b] for x in (*rows, noise)]
        expected = slow_gaussian(module, [x[b] for x in start], *given)
        fields = states.deter, states.stoch, *states.parameters, prior.mean, prior.std
        ours = [field[b] for field in fields]
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------- observing


@new
def test_shapes_and_names(make):
    module = made(make)
    states = module.observe(module.initial(BATCH), *sequence())
    gaussian = isinstance(module.latent, wb.rssm.GaussianLatent)
    shape = (STOCH,) if gaussian else (GROUPS, CLASSES)
    assert states.deter.shape == (BATCH, TIME, DETER)
    _, *latents = pytree.tree_leaves(states)
    assert [tuple(field.shape) for field in latents] == [(BATCH, TIME, *shape)] * (2 + gaussian)
    assert states.memory == ()
    assert module.part_dims == (DETER, math.prod(shape))
    assert module.feature_dim == states.feature().shape[-1] == sum(module.part_dims)
    assert all(x.count_nonzero() == 0 for x in module.initial(BATCH))
    prior, posterior = module.prior(states), module.posterior(states)
    assert prior.entropy().shape == posterior.entropy().shape == (BATCH, TIME)


@new
def test_observe_is_observe_step_repeated(make):
    """In values and in what they teach each parameter and the carry they start from."""
    module, (embed, action, is_first) = made(make), sequence()
    start = last = leaves(carry(module))
    wanted = [*start, *module.parameters()]
    torch.manual_seed(1)
    states = module.observe(start, embed, action, is_first)
    torch.manual_seed(1)
    for t in range(TIME):
        step = module.observe_step(last, embed[:, t], action[:, t], is_first[:, t])
        torch.testing.assert_close(step, states[:, t], rtol=1e-4, atol=1e-5)
        last = step.carry
    ends = [state.feature().square().sum() for state in (states[:, -1], step)]
    grads = [torch.autograd.grad(end, wanted, allow_unused=True) for end in ends]
    for ours, expected in zip(*grads, strict=True):
        ours, expected = (torch.zeros(()) if g is None else g for g in (ours, expected))
        torch.testing.assert_close(ours, expected.expand_as(ours), rtol=1e-3, atol=1e-5)


@new
@pytest.mark.parametrize("bad", [math.nan, 1e30])
def test_history_before_a_reset_is_irrelevant(make, bad):
    module, (embed, action, is_first) = made(make), sequence()
    start, cut = carry(module), TIME // 2
    with modes():
        states = module.observe(start, embed, action, is_first)
        poisoned = pytree.tree_map(torch.clone, start)
        noisy, prev = embed.clone(), action.clone()
        for x in (*poisoned, noisy[:, :cut], prev[:, : cut + 1]):
            x[1] = bad
        again = module.observe(poisoned, noisy, prev, is_first)
    torch.testing.assert_close(again[1:, cut:], states[1:, cut:])
    torch.testing.assert_close(again[:1, :], states[:1, :])


@new
def test_no_gradient_crosses_a_reset(make):
    module, (embed, action, is_first) = made(make), sequence()
    start, cut = leaves(carry(module)), TIME // 2
    embed, action = leaf(embed), leaf(action)
    states = module.observe(start, embed, action, is_first)
    loss = sum(field[1, cut:].square().sum() for field in pytree.tree_leaves(states))
    to_embed, to_action, *to_start = torch.autograd.grad(loss, (embed, action, *start))
    assert to_embed[1, :cut].eq(0).all()
    assert to_action[1, : cut + 1].eq(0).all(), "the action at the reset is masked too"
    assert all(x.count_nonzero() == 0 for x in to_start)
    assert to_embed[1, cut:].ne(0).any(-1).all()
    assert to_action[1, cut + 1 :].ne(0).any(-1).all()


@every
def test_gradients_reach_every_parameter(make):
    module, rows = made(make), sequence()
    states = module.observe(module.initial(BATCH), *rows)
    prior, posterior = module.prior(states), module.posterior(states)
    dyn, rep = wb.losses.balanced_kl(posterior, prior, free_nats=0.0)
    loss = (dyn + rep).sum() + states.feature().square().sum()
    assert all(g.ne(0).any() for g in torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("make", DECOUPLED.values(), ids=DECOUPLED)
def test_a_decoupled_posterior_is_one_call_for_the_sequence(make, monkeypatch):
    module, calls = made(make), []
    network = module.latent.posterior_out.forward
    count = lambda x: calls.append(tuple(x.shape)) or network(x)  # noqa: E731
    monkeypatch.setattr(module.latent.posterior_out, "forward", count)
    embed, action, is_first = sequence()
    with modes():
        states = module.observe(carry(module), embed, action, is_first)
        assert calls == [(BATCH, TIME, HIDDEN)]
        other = module.observe(carry(module), embed, -action, is_first)
    assert not torch.equal(states.deter, other.deter)
    (_, *latents), (_, *others) = pytree.tree_leaves(states), pytree.tree_leaves(other)
    for ours, theirs in zip(latents, others, strict=True):
        assert torch.equal(ours, theirs), "neither the carry nor the actions are seen"


@every
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_computing_twice_changes_nothing(make, rows):
    module, given = made(make), sequence()
    found = []
    start = carry(module)
    for module.recompute in (0, rows):
        torch.manual_seed(3)
        states = module.observe(start, *given)
        fields = pytree.tree_leaves(states)
        loss = sum((n + 1) * field.square().sum() for n, field in enumerate(fields))
        grads = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        found.append([*fields, *(g for g in grads if g is not None)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------- imagining, packing


@new
def test_an_imagined_step_is_core_then_prior(make):
    module, action = made(make), torch.randn(BATCH, ACTION)
    last = carry(module)
    with modes():
        state = module.imagine_step(last, action)
    projected = module.core.project_action(action)
    deter, _ = module.core.step(last.memory, last.stoch.flatten(1), projected)
    torch.testing.assert_close(state.deter, deter)
    prior = module.prior(state)
    parameters = module.latent.prior(deter)
    torch.testing.assert_close(prior.mean, module.latent.distribution(parameters).mean)
    torch.testing.assert_close(state.stoch, prior.mode)
    torch.testing.assert_close(module.posterior(state).mean, prior.mean)


@new
def test_imagine_and_rollout_agree(make):
    module, (embed, action, is_first) = made(make), sequence()
    policy = lambda state: torch.tanh(state.feature()[:, :ACTION])  # noqa: E731
    with modes():
        start = module.observe(carry(module), embed, action, is_first).flatten().detach()
        states, actions = wb.rssm.imagine(module, start, policy, 3)
        again = wb.rssm.rollout(module, start.carry, actions[:, :-1])
    assert states.feature().shape == (BATCH * TIME, 4, module.feature_dim)
    torch.testing.assert_close(states[:, 0], start)
    torch.testing.assert_close(again, states[:, 1:])


@new
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_carry_is_packed_exactly(make, dtype):
    module = made(make)
    states = module.observe(carry(module), *sequence())
    for each in (states.carry, module.initial(BATCH), states[:, 3].carry):
        each = pytree.tree_map(lambda x: x.to(dtype), each)
        packed = module.pack(each)
        assert type(packed) is wb.rssm.Packed
        assert packed.memory.dtype == dtype
        back = module.unpack(packed)
        assert type(back) is type(each)
        for ours, expected in zip(back, each, strict=True):
            assert ours.dtype == dtype
            assert torch.equal(ours, expected)


# --------------------------------------------------------------------- capture, precision, messages


@pytest.mark.parametrize("name", ["gru", "gaussian decoupled"])
def test_capture(same_when_compiled, name):
    module = made(VARIANTS[name])
    embed, action, is_first = sequence(time=3)
    start = carry(module)

    def three_rows(deter, stoch, embed, action):
        with modes():
            states = module.observe(wb.rssm.Carry(deter, stoch), embed, action, is_first)
        prior, posterior = module.prior(states), module.posterior(states)
        return states.feature(), wb.losses.balanced_kl(posterior, prior, free_nats=1.0)

    same_when_compiled(three_rows, *start, embed, action, module=module)


@new
def test_nothing_is_read_back_to_the_host(make):
    """Tensors without data: whatever asked for a value would fail."""
    module = made(make).to("meta")
    states = module.observe(module.initial(BATCH), *(x.to("meta") for x in sequence()))
    prior, posterior = module.prior(states), module.posterior(states)
    assert wb.losses.balanced_kl(posterior, prior, free_nats=1.0)[0].is_meta
    imagined = module.imagine_step(states[:, -1].carry, torch.zeros(BATCH, ACTION, device="meta"))
    assert module.unpack(module.pack(imagined.carry)).stoch.is_meta


@new
def test_under_autocast_it_stays_near_float32(make):
    module, rows = made(make), sequence()
    for parameter in module.parameters():
        parameter.data *= 0.5
    start = carry(module)
    with modes():
        exact = module.observe(start, *rows)
        with torch.autocast("cpu", torch.bfloat16):
            cast = module.observe(start, *rows)
            packed = module.pack(cast.carry)
            kl = module.posterior(cast).kl(module.prior(cast))
    assert kl.dtype == torch.float32
    assert torch.equal(module.unpack(packed).stoch, cast.stoch)
    assert cast.deter.dtype == cast.stoch.dtype == torch.bfloat16
    torch.testing.assert_close(cast.deter[:, 0].float(), exact.deter[:, 0], rtol=0, atol=0.03)


@new
def test_a_carry_of_another_model_is_refused(make):
    module, (embed, action, is_first) = made(make), sequence()
    wide = module.initial(BATCH)._replace(memory=torch.zeros(BATCH, DETER + 1))
    own = list(module.latent.shape)
    wanted, given = ([[BATCH, width], [BATCH, *own]] for width in (DETER, DETER + 1))
    message = re.escape(f"carries tensors of the shapes {wanted}, got {given}: a carry of another")
    with pytest.raises(ValueError, match=message):
        module.observe(wide, embed, action, is_first)
    with pytest.raises(ValueError, match=message):
        module.imagine_step(wide, action[:, 0])


@new
def test_a_wrong_carry_is_named(make):
    module, rows = made(make), sequence()
    start = module.initial(BATCH)
    wrong = start._replace(stoch=module.initial(3).stoch)
    message = r"RSSM.observe: carry.stoch should be .*'batch .*got float32\[3, "
    with pytest.raises(TypeCheckError, match=message):
        module.observe(wrong, *rows)

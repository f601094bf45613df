import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks.distributions import modes
from worldblocks.losses import balanced_kl
from worldblocks.rssm import Carry, Packed, State, dreamer_rssm

DETER, GROUPS, CLASSES, EMBED, ACTION = 12, 5, 4, 11, 3
BATCH, TIME = 2, 7


def rssm(**options):
    sizes = {"deter": DETER, "hidden": 6, "groups": GROUPS, "classes": CLASSES, "blocks": 3}
    module = dreamer_rssm(embed_dim=EMBED, action_dim=ACTION, **sizes, **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def carry(batch=BATCH):
    index = torch.randint(CLASSES, (batch, GROUPS))
    return Carry(torch.randn(batch, DETER), torch.eye(CLASSES)[index])


def sequence(time=TIME, batch=BATCH):
    """Embeddings, previous actions, and flags with a reset in the middle of sequence 1."""
    is_first = torch.zeros(batch, time, dtype=torch.bool)
    is_first[1, time // 2] = True
    return torch.randn(batch, time, EMBED), torch.randn(batch, time, ACTION), is_first


def leaf(x):
    return x.clone().requires_grad_()


# ---------------------------------------------------------------------------------------- observing


def test_shapes_and_names():
    module = rssm()
    states = module.observe(module.initial(BATCH), *sequence())
    assert isinstance(states, State)
    assert states.deter.shape == (BATCH, TIME, DETER)
    assert states.stoch.shape == states.parameters.shape == (BATCH, TIME, GROUPS, CLASSES)
    assert states.feature().shape == (BATCH, TIME, module.feature_dim)
    assert module.feature_dim == DETER + GROUPS * CLASSES
    assert module.part_dims == (DETER, GROUPS * CLASSES)
    assert module.context == 1
    assert states.stoch.sum(-1).eq(1).all()


def test_the_initial_carry_is_zeros():
    start = rssm().initial(BATCH)
    assert isinstance(start, Carry)
    assert (start.memory.shape, start.stoch.shape) == ((BATCH, DETER), (BATCH, GROUPS, CLASSES))
    assert (start.memory.count_nonzero(), start.stoch.count_nonzero()) == (0, 0)


@pytest.mark.parametrize(
    "options", [{}, {"absolute": True}, {"core_layers": 2, "posterior_layers": 2}]
)
def test_observe_is_observe_step_repeated(options):
    """In values and in what they teach each parameter and the carry they start from."""
    module, (embed, action, is_first), start = rssm(**options), sequence(), carry()
    wanted = [leaf(start.memory), leaf(start.stoch), *module.parameters()]
    start = last = Carry(*wanted[:2])
    torch.manual_seed(1)
    states = module.observe(start, embed, action, is_first)
    torch.manual_seed(1)
    for t in range(TIME):
        step = module.observe_step(last, embed[:, t], action[:, t], is_first[:, t])
        torch.testing.assert_close(step, states[:, t], rtol=1e-4, atol=1e-5)
        last = step.carry
    ends = [state.feature().square().sum() for state in (states[:, -1], step)]
    grads = [torch.autograd.grad(end, wanted, allow_unused=True) for end in ends]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


@given(st.integers(1, TIME - 1))
def test_observing_in_two_pieces_is_observing_at_once(cut):
    module, rows, start = rssm(), sequence(), carry()
    with modes():
        whole = module.observe(start, *rows)
        first = module.observe(start, *(x[:, :cut] for x in rows))
        second = module.observe(first[:, -1].carry, *(x[:, cut:] for x in rows))
    torch.testing.assert_close(second, whole[:, cut:], rtol=1e-4, atol=1e-5)


def test_a_step_is_core_then_posterior():
    module, (embed, action, _), last = rssm(), sequence(), carry()
    never = torch.zeros(BATCH, dtype=torch.bool)
    state = module.observe_step(last, embed[:, 0], action[:, 0], never)
    projected = module.core.project_action(action[:, 0])
    deter, _ = module.core.step(last.memory, last.stoch.flatten(-2), projected)
    torch.testing.assert_close(state.deter, deter)
    logits = module.latent.posterior(deter, module.latent.project(embed[:, 0]))
    torch.testing.assert_close(state.parameters, logits)


def test_a_reset_starts_from_zeros_with_no_action():
    """The zero vector as action, which is not the one-hot of action 0."""
    module, (embed, action, _) = rssm(), sequence()
    now = torch.ones(BATCH, dtype=torch.bool)
    with modes():
        reset = module.observe_step(carry(), embed[:, 0], action[:, 0], now)
        fresh = module.observe_step(
            module.initial(BATCH), embed[:, 0], torch.zeros(BATCH, ACTION), ~now
        )
        first_action = torch.eye(ACTION)[:1].repeat(BATCH, 1)
        other = module.observe_step(module.initial(BATCH), embed[:, 0], first_action, ~now)
    torch.testing.assert_close(reset, fresh)
    assert not torch.allclose(reset.deter, other.deter)


@pytest.mark.parametrize("bad", [1e30, math.nan, math.inf])
def test_history_before_a_reset_is_irrelevant_even_where_it_is_not_finite(bad):
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    cut = TIME // 2
    with modes():
        states = module.observe(start, embed, action, is_first)
        deter, noisy, prev = start.memory.clone(), embed.clone(), action.clone()
        deter[1], noisy[1, :cut], prev[1, : cut + 1] = bad, bad, bad
        again = module.observe(start._replace(memory=deter), noisy, prev, is_first)
    torch.testing.assert_close(again[1:, cut:], states[1:, cut:])
    torch.testing.assert_close(again[:1, :], states[:1, :])


def test_no_gradient_crosses_a_reset():
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    cut = TIME // 2
    embed, action, deter, stoch = leaf(embed), leaf(action), leaf(start.memory), leaf(start.stoch)
    states = module.observe(Carry(deter, stoch), embed, action, is_first)
    loss = states[1, cut:].feature().square().sum() + states[1, cut:].parameters.sum()
    grads = torch.autograd.grad(loss, (embed, action, deter, stoch))
    assert grads[0][1, :cut].eq(0).all()
    assert grads[1][1, : cut + 1].eq(0).all(), "the action at the reset is masked too"
    assert (grads[2].count_nonzero(), grads[3].count_nonzero()) == (0, 0)
    assert grads[0][1, cut:].ne(0).any(-1).all()
    assert grads[1][1, cut + 1 :].ne(0).any(-1).all()


def test_states_depend_on_the_past_only():
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    embed, action = leaf(embed), leaf(action)
    states = module.observe(start, embed, action, is_first)
    loss = states[0, 3].feature().square().sum() + states[0, 3].parameters.sum()
    for gradient in torch.autograd.grad(loss, (embed, action)):
        assert gradient[0, 4:].eq(0).all()
        assert gradient[0, :4].ne(0).any(-1).all(), "… and on all of it"
        assert gradient[1].eq(0).all(), "sequences do not mix"


def test_the_deterministic_part_has_not_seen_its_own_row():
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    embed = leaf(embed)
    states = module.observe(start, embed, action, is_first)
    (gradient,) = torch.autograd.grad(states.deter[0, 3].sum(), embed)
    assert gradient[0, 3].eq(0).all()


def test_prev_action_led_to_its_own_row():
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    with modes():
        states = module.observe(start, embed, action, is_first)
        other = action.clone()
        other[0, 4] += 1
        again = module.observe(start, embed, other, is_first)
    same = (states.deter == again.deter).all(-1)
    assert same[0].tolist() == [True] * 4 + [False] * 3


def test_gradients_reach_every_parameter():
    module, rows = rssm(), sequence()
    states = module.observe(module.initial(BATCH), *rows)
    prior, posterior = module.prior(states), module.posterior(states)
    dyn, rep = balanced_kl(posterior, prior, free_nats=0.0)
    loss = (dyn + rep).sum() + states.feature().square().sum()
    grads = torch.autograd.grad(loss, list(module.parameters()))
    assert all(g.ne(0).any() for g in grads)


def test_the_straight_through_gradient_stays_in_modes():
    module, rows = rssm(), sequence(time=3)
    with modes():
        loss = module.observe(module.initial(BATCH), *rows).stoch[:, -1].square().sum()
        again = module.observe(module.initial(BATCH), *rows).stoch[:, -1].square().sum()
    weight = module.latent.posterior_out.weight
    (gradient,) = torch.autograd.grad(loss, weight)
    assert torch.equal(loss, again)
    assert gradient.ne(0).any()


def test_samples_follow_the_logits():
    """4 000 rows of one state: five deviations of a frequency are below 0.04."""
    module, (embed, action, is_first) = rssm(), sequence(time=1)
    draws = 4000
    rows = (x[:1, 0].expand(draws, *x.shape[2:]) for x in (embed, action, is_first))
    state = module.observe_step(module.initial(draws), *rows)
    probs = 0.99 * state.parameters[0].softmax(-1) + 0.01 / CLASSES
    assert (state.stoch.mean(0) - probs).abs().max() < 0.04


# ---------------------------------------------------------------------------------------- imagining


def test_an_imagined_step_is_core_then_prior():
    module, last, action = rssm(), carry(), torch.randn(BATCH, ACTION)
    state = module.imagine_step(last, action)
    projected = module.core.project_action(action)
    deter, _ = module.core.step(last.memory, last.stoch.flatten(-2), projected)
    torch.testing.assert_close(state.deter, deter)
    torch.testing.assert_close(state.parameters, module.latent.prior(deter))


def test_the_prior_takes_any_batch_axes():
    module, states = rssm(), rssm().observe(carry(), *sequence())
    prior = module.prior(states)
    assert prior.probs.shape == (BATCH, TIME, GROUPS, CLASSES)
    assert prior.entropy().shape == (BATCH, TIME)
    torch.testing.assert_close(module.prior(states[1, 3]).probs, prior.probs[1, 3])


def test_prior_and_posterior_have_the_uniform_share_of_the_latent():
    module = rssm(unimix=0.2)
    states = module.observe(carry(), *sequence())
    expected = 0.8 * states.parameters.softmax(-1) + 0.2 / CLASSES
    torch.testing.assert_close(module.posterior(states).probs, expected)
    assert (module.posterior(states).event, module.prior(states).unimix) == (1, 0.2)


# ------------------------------------------------------------------------------------------ packing


def test_a_carry_is_packed_exactly():
    module = rssm()
    states = module.observe(carry(), *sequence())
    for each in (states.carry, module.initial(BATCH), states[:, 3].carry):
        packed = module.pack(each)
        assert (type(packed), packed.stoch.dtype) == (Packed, torch.uint8)
        assert packed.memory is each.memory
        back = module.unpack(packed)
        assert isinstance(back, Carry)
        assert torch.equal(back.memory, each.memory)
        assert torch.equal(back.stoch, each.stoch)


def test_a_bfloat16_carry_is_packed_in_its_own_dtype():
    module = rssm()
    low = Carry(*(x.bfloat16() for x in carry()))
    packed = module.pack(low)
    back = module.unpack(packed)
    assert (packed.memory.dtype, back.stoch.dtype) == (torch.bfloat16, torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(back, low, strict=True))


# -------------------------------------------------------------------------------------- wrong input


def observe(module, **change):
    embed, action, is_first = sequence()
    given = {"carry": carry(), "embed": embed, "prev_action": action, "is_first": is_first}
    return module.observe(**{**given, **change})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (carry(3), r"RSSM.observe: carry.stoch should be .*'batch groups .*got float32\[3, 5, 4\]"),
        (carry()._replace(stoch=carry(3).stoch), r"carry.stoch should be .*got float32\[3, 5, 4\]"),
        (carry()._replace(stoch=carry().stoch > 0), r"carry.stoch should be .*got bool\[2, 5, 4\]"),
        (carry()._replace(stoch=None), r"carry.stoch should be Float.* or Float.*, got None"),
    ],
    ids=["batch", "batch of stoch", "dtype", "none"],
)
def test_a_wrong_carry_is_named(wrong, message):
    with pytest.raises(TypeCheckError, match=message):
        observe(rssm(), carry=wrong)


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (Carry(carry(3).memory, carry().stoch), r"\[\[3, 12\], \[2, 5, 4\]\]"),
        (Carry(carry().stoch, carry().memory), r"\[\[2, 5, 4\], \[2, 12\]\]"),
        (Carry(torch.zeros(DETER), carry().stoch), r"\[\[12\], \[2, 5, 4\]\]"),
        (Carry(carry().memory, torch.zeros(2, 20)), r"\[\[2, 12\], \[2, 20\]\]"),
        (Carry((carry().memory,) * 2, carry().stoch), r"\[\[2, 12\], \[2, 12\], \[2, 5, 4\]\]"),
        (Carry(torch.zeros(2, 13), torch.zeros(2, 5, 3)), r"\[\[2, 13\], \[2, 5, 3\]\]"),
    ],
    ids=["batch of memory", "swapped", "missing", "flat", "two memories", "another model"],
)
def test_a_carry_of_other_shapes_is_refused(wrong, given):
    message = rf"carries tensors of the shapes \[\[2, 12\], \[2, 5, 4\]\], got {given}: a carry of"
    embed, action, is_first = sequence()
    for call in (
        lambda: observe(rssm(), carry=wrong),
        lambda: rssm().observe_step(wrong, embed[:, 0], action[:, 0], is_first[:, 0]),
        lambda: rssm().imagine_step(wrong, action[:, 0]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_time_first_data_is_refused():
    rows = {
        k: x.transpose(0, 1)
        for k, x in zip(("embed", "prev_action", "is_first"), sequence(), strict=True)
    }
    with pytest.raises(
        TypeCheckError, match=r"embed should.*prev_action.* and is_first .*time first\?"
    ):
        observe(rssm(), **rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prev_action", torch.zeros(TIME, BATCH, ACTION)),
        ("prev_action", torch.zeros(BATCH, TIME, ACTION, dtype=torch.int8)),
        ("prev_action", torch.zeros(BATCH, TIME)),
        ("is_first", torch.zeros(TIME, BATCH, dtype=torch.bool)),
        ("is_first", torch.zeros(BATCH, TIME)),
    ],
)
def test_a_wrong_argument_is_named(name, value):
    with pytest.raises(TypeCheckError, match=f"RSSM.observe: {name} should be "):
        observe(rssm(), **{name: value})


def test_swapped_arguments_are_named():
    embed, action, _ = sequence()
    with pytest.raises(ValueError, match=r"action should be 3 wide .*got shape \(2, 7, 11\)"):
        observe(rssm(), embed=action, prev_action=embed)
    with pytest.raises(ValueError, match=r"embed should be 11 wide .*got shape \(2, 7, 3\)"):
        observe(rssm(), embed=action)


def test_no_rows():
    with pytest.raises(ValueError, match="observe needs at least one row, got time = 0"):
        rssm().observe(carry(), *sequence(time=1)[:0], *(x[:, :0] for x in sequence(time=1)))


def test_checks_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("JAXTYPING_DISABLE", "1")
    action = torch.zeros(BATCH, TIME, ACTION, dtype=torch.int64)
    assert observe(rssm(), prev_action=action).deter.shape == (BATCH, TIME, DETER)


# --------------------------------------------------------------------- capture, precision, extremes


def test_capture(same_when_compiled):
    module = rssm()
    embed, action, is_first = sequence(time=3)

    def three_rows(deter, stoch, embed, action):
        with modes():
            states = module.observe(Carry(deter, stoch), embed, action, is_first)
        return states.feature(), states.parameters, module.prior(states).probs

    same_when_compiled(three_rows, *carry(), embed, action, module=module)


def test_nothing_is_read_back_to_the_host():
    """Tensors without data: whatever asked for a value would fail."""
    module = rssm().to("meta")
    rows = (x.to("meta") for x in sequence())
    states = module.observe(module.initial(BATCH), *rows)
    imagined = module.imagine_step(states[:, -1].carry, torch.zeros(BATCH, ACTION, device="meta"))
    assert module.unpack(module.pack(imagined.carry)).stoch.is_meta


def test_under_autocast_it_stays_near_float32():
    module, rows, start = rssm(), sequence(), carry()
    for parameter in module.parameters():
        parameter.data *= 0.5
    with modes():
        exact = module.observe(start, *rows)
        with torch.autocast("cpu", torch.bfloat16):
            cast = module.observe(start, *rows)
            packed = module.pack(cast.carry)
    assert torch.equal(module.unpack(packed).stoch, cast.stoch)
    assert cast.deter.dtype == cast.stoch.dtype
    torch.testing.assert_close(cast.deter[:, 0].float(), exact.deter[:, 0], rtol=0, atol=0.03)
    torch.testing.assert_close(
        cast.parameters[:, 0].float(), exact.parameters[:, 0], rtol=0, atol=0.1
    )


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_extreme_actions_and_embeddings(size):
    module, (embed, action, is_first) = rssm(), sequence()
    action = leaf(size * action)
    states = module.observe(carry(), embed * min(size, 1e15), action, is_first)
    (gradient,) = torch.autograd.grad(states.feature().sum(), action)
    assert states.deter.isfinite().all()
    assert gradient.isfinite().all()


def test_a_nan_stays_in_its_own_sequence_until_the_reset():
    module, (embed, action, is_first), start = rssm(), sequence(), carry()
    embed[1, 1] = math.nan
    states = module.observe(start, embed, action, is_first)
    bad = states.parameters.isnan().any(-1).any(-1)
    assert bad[0].tolist() == [False] * TIME
    assert bad[1].tolist() == [False, True, True, False, False, False, False]


def test_recomputed_rows_are_as_they_were_asked_for():
    """The backward pass runs outside of `modes()`, and takes the modes of the forward pass."""
    whole, pieces = rssm(), rssm(recompute=2)
    pieces.load_state_dict(whole.state_dict())
    rows, grads = sequence(), []
    for module in (whole, pieces):
        with modes():
            loss = module.observe(module.initial(BATCH), *rows).feature().square().sum()
        grads.append(torch.autograd.grad(loss, list(module.latent.posterior_out.parameters())))
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)

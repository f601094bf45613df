"""An RSSM whose core remembers more than its deterministic state."""

import functools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.utils import _pytree as pytree

import worldblocks as wb
from ring_core import Forgetful, Ring, RingCore, ScanningCore
from worldblocks.distributions import modes
from worldblocks.rssm import RSSM, Carry, Dropped, imagine, rollout
from worldblocks.rssm.model import mask, masked
from worldblocks.testing.promise import searching

DETER, HIDDEN, EMBED, ACTION, GROUPS, CLASSES, SIZE = 12, 6, 11, 3, 5, 4, 8
BATCH, TIME, REACH = 2, 9, 4

CATEGORICAL = functools.partial(wb.rssm.CategoricalLatent, groups=GROUPS, classes=CLASSES)
GAUSSIAN = functools.partial(wb.rssm.GaussianLatent, size=SIZE)
LATENTS = {"categorical": CATEGORICAL, "gaussian": GAUSSIAN}
LATENTS |= {f"{name} decoupled": functools.partial(x, absolute=True) for name, x in LATENTS.items()}
every = pytest.mark.parametrize("latent", LATENTS.values(), ids=LATENTS)
decoupled = pytest.mark.parametrize(
    "latent", [LATENTS[name] for name in LATENTS if "decoupled" in name]
)


def made(latent=CATEGORICAL, core=RingCore, *, reach=REACH, recompute=0):
    part = latent(deter=DETER, embed_dim=EMBED, hidden=7)
    sizes = {"deter": DETER, "stoch": math.prod(part.shape), "action_dim": ACTION}
    module = RSSM(core(**sizes, hidden=HIDDEN, reach=reach), part, recompute=recompute)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def sequence(time=TIME, batch=BATCH):
    """Embeddings, previous actions, and flags with a reset in the middle of sequence 1."""
    is_first = torch.zeros(batch, time, dtype=torch.bool)
    is_first[1, time // 2] = True
    return torch.randn(batch, time, EMBED), torch.randn(batch, time, ACTION), is_first


def carry(module, rows=2, batch=BATCH):
    """After some rows: fewer than a ring holds."""
    last = module.initial(batch)
    for _ in range(rows):
        last = module.imagine_step(last, torch.randn(batch, ACTION)).carry
    return pytree.tree_map(torch.detach, last)


def leaves(tree):
    """A copy whose numbers take a gradient, and these numbers."""
    copy = pytree.tree_map(lambda x: x.clone().requires_grad_(x.is_floating_point()), tree)
    return copy, [x for x in pytree.tree_leaves(copy) if x.requires_grad]


def same(ours, theirs):
    for a, b in zip(*map(pytree.tree_leaves, (ours, theirs)), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


# -------------------------------------------------------------------------------------------- masks


def test_a_mask_keeps_the_dtype():
    now = torch.tensor([True, False])
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.int64):
        x = torch.ones(2, 3, dtype=dtype)
        kept = mask(x, now)
        assert (kept.dtype, kept.tolist()) == (dtype, [[0] * 3, [1] * 3])
    flags = mask(torch.ones(2, 3, dtype=torch.bool), now)
    assert (flags.dtype, flags.tolist()) == (torch.bool, [[False] * 3, [True] * 3])
    assert mask(torch.tensor([math.nan, math.inf]), now).tolist() == [0, math.inf]


def test_every_part_of_a_memory_is_masked():
    ring = Ring(torch.randn(2, 3, HIDDEN), torch.ones(2, 3, dtype=torch.bool))
    now = torch.tensor([True, False])
    cleared = masked(ring, now)
    assert isinstance(cleared, Ring)
    assert cleared.token.count_nonzero(dim=(1, 2)).tolist() == [0, 3 * HIDDEN]
    assert (cleared.valid.dtype, cleared.valid.tolist()) == (torch.bool, [[False] * 3, [True] * 3])
    nested = masked({"ring": ring, "more": (now,)}, now)
    assert nested["more"][0].tolist() == [False, False]


# ---------------------------------------------------------------------------------------- observing


@every
def test_the_ring_is_what_was_last(latent):
    """By hand: tokens of the latent and the action before each row, of its episode alone."""
    module, (embed, action, is_first) = made(latent), sequence()
    states = module.observe(module.initial(BATCH), embed, action, is_first)
    core = module.core
    assert isinstance(states.memory, Ring)
    assert states.memory.token.shape == (BATCH, TIME, REACH - 1, HIDDEN)
    assert states.memory.valid.dtype == torch.bool
    stoch = states.stoch.flatten(2)
    for b in range(BATCH):
        tokens = []
        for t in range(TIME):
            if is_first[b, t]:
                tokens = []
            begins = is_first[b, t] or t == 0
            before = torch.zeros_like(stoch[b, 0]) if begins else stoch[b, t - 1]
            led = torch.zeros(ACTION) if is_first[b, t] else action[b, t]
            tokens.append(torch.tanh(core.from_stoch(before) + core.from_action(led)))
            tokens = tokens[-REACH:]
            scores = torch.stack([core.query(tokens[-1]) @ token for token in tokens])
            mixed = sum(w * token for w, token in zip(scores.softmax(0), tokens, strict=True))
            expected = torch.tanh(core.out(mixed))
            torch.testing.assert_close(states.deter[b, t], expected, rtol=1e-4, atol=1e-5)
            kept = tokens[1 - REACH :]
            missing = REACH - 1 - len(kept)
            assert states.memory.valid[b, t].tolist() == [False] * missing + [True] * len(kept)
            torch.testing.assert_close(states.memory.token[b, t, missing:], torch.stack(kept))
            assert states.memory.token[b, t, :missing].eq(0).all()


@every
@pytest.mark.parametrize("core", [RingCore, ScanningCore])
@pytest.mark.parametrize("recompute", [0, 2])
def test_observe_is_observe_step_repeated(latent, core, recompute):
    """In values, memories and gradients, with respect to the first carry too."""
    module, (embed, action, is_first) = made(latent, core, recompute=recompute), sequence()
    start, numbers = leaves(carry(module))
    wanted = [*numbers, *module.parameters()]
    torch.manual_seed(1)
    noise = module.latent.noise(is_first)
    torch.manual_seed(1)
    states = module.observe(start, embed, action, is_first)
    last = start
    for t in range(TIME):
        actions = module.core.project_action(mask(action[:, t], is_first[:, t]))
        projected = module.latent.project(embed[:, t])
        step = module._observe_step(last, projected, actions, is_first[:, t], noise[:, t])
        torch.testing.assert_close(step, states[:, t], rtol=1e-4, atol=1e-5)
        last = step.carry
    ends = [state.feature().square().sum() for state in (states[:, -1], step)]
    grads = [torch.autograd.grad(end, wanted, allow_unused=True) for end in ends]
    for ours, expected in zip(*grads, strict=True):
        ours, expected = (torch.zeros(()) if g is None else g for g in (ours, expected))
        torch.testing.assert_close(ours, expected.expand_as(ours), rtol=1e-3, atol=1e-5)


@every
@pytest.mark.parametrize("core", [RingCore, ScanningCore])
@given(cut=st.integers(1, TIME - 1))
def test_observing_in_two_pieces_is_observing_at_once(latent, core, cut):
    module, rows = made(latent, core), sequence()
    start = carry(module)
    with modes():
        whole = module.observe(start, *rows)
        first = module.observe(start, *(x[:, :cut] for x in rows))
        second = module.observe(first[:, -1].carry, *(x[:, cut:] for x in rows))
    torch.testing.assert_close(second, whole[:, cut:], rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("core", [RingCore, ScanningCore])
@pytest.mark.parametrize("bad", [1e30, -7.0])
def test_history_before_a_reset_is_irrelevant(latent, core, bad):
    module, (embed, action, is_first) = made(latent, core), sequence()
    start, cut = carry(module), TIME // 2
    with modes():
        states = module.observe(start, embed, action, is_first)
        poisoned, noisy, prev = pytree.tree_map(torch.clone, start), embed.clone(), action.clone()
        for x in (poisoned.memory.token, poisoned.stoch, noisy[:, :cut], prev[:, : cut + 1]):
            x[1] = bad
        poisoned.memory.valid[1] = True
        again = module.observe(poisoned, noisy, prev, is_first)
    torch.testing.assert_close(again[1:, cut:], states[1:, cut:])
    torch.testing.assert_close(again[:1, :], states[:1, :])


@pytest.mark.parametrize("reach", [2, 3, 30])
def test_it_reaches_as_far_as_its_ring(reach):
    """The last row has a gradient from the token of its own action and `reach - 1` before."""
    module, (embed, action, _) = made(CATEGORICAL, reach=reach), sequence()
    module.core.from_stoch.weight.data.zero_()  # so that a token is of its action alone
    action.requires_grad_()
    never = torch.zeros(BATCH, TIME, dtype=torch.bool)
    states = module.observe(module.initial(BATCH), embed, action, never)
    (slope,) = torch.autograd.grad(states.deter[0, -1].sum(), action)
    far = slope[0].ne(0).any(-1)
    assert far.tolist() == [False] * max(0, TIME - reach) + [True] * min(TIME, reach)


def test_a_state_that_is_stored_begins_a_window(tmp_path):
    """Write back what was observed, read it as the carry of a window, go on from there."""
    module, rows = made(), sequence()
    with modes():
        whole = module.observe(module.initial(BATCH), *rows)
        packed = module.pack(whole.carry)
        at = pytree.tree_map(lambda x: x[:, 3], packed)
        again = module.observe(module.unpack(at), *(x[:, 4:] for x in rows))
    torch.testing.assert_close(again, whole[:, 4:])


# ----------------------------------------------------------------------------------------- scanning


class CountingCore(ScanningCore):
    """Notes how it is called."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.calls = []

    def step(self, *given):
        self.calls.append("step")
        return super().step(*given)

    def scan(self, memory, stoch, projected, is_first):
        shapes = [tuple(x.shape) for x in (memory.token, stoch, projected, is_first)]
        self.calls.append(shapes)
        assert stoch[is_first].eq(0).all(), "the latent before a reset is masked already"
        return super().scan(memory, stoch, projected, is_first)


@every
def test_a_scan_is_taken_where_no_posterior_reads_deter(latent):
    module, rows = made(latent, CountingCore), sequence()
    module.observe(module.initial(BATCH), *rows)
    stoch = math.prod(module.latent.shape)
    whole = [(BATCH, REACH - 1, HIDDEN), (BATCH, TIME, stoch), (BATCH, TIME, HIDDEN), (BATCH, TIME)]
    assert module.core.calls == ([whole] if module.latent.absolute else ["step"] * TIME)
    module.core.calls.clear()
    module.observe_step(module.initial(BATCH), *(x[:, 0] for x in rows))
    module.imagine_step(module.initial(BATCH), rows[1][:, 0])
    assert module.core.calls == ["step", "step"]


@decoupled
def test_a_scan_is_the_loop(latent):
    """Values, memories and gradients."""
    module, (embed, action, is_first) = made(latent, ScanningCore), sequence()
    start, found = carry(module), []
    for kind in (ScanningCore, RingCore):
        module.core.__class__ = kind
        (given, *rows), numbers = leaves([start, embed, action])
        torch.manual_seed(2)
        states = module.observe(given, *rows, is_first)
        end = [x for x in pytree.tree_leaves(states) if x.requires_grad]
        loss = sum((x * torch.linspace(0.5, 1.5, x.numel()).view_as(x)).sum() for x in end)
        wanted = [*numbers, *(p for n, p in module.named_parameters() if "prior" not in n)]
        found.append((states, torch.autograd.grad(loss, wanted)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@decoupled
def test_a_memory_that_is_deter_is_kept_once_by_a_scan_too(latent):
    """A scan returns `deter` twice, as `step` does."""

    class Sum(RingCore):
        def initial(self, batch):
            return self.out.weight.new_zeros(batch, self.deter)

        def step(self, memory, stoch, projected):
            new = memory + self.out(self.from_stoch(stoch) + projected)
            return new, new

        def scan(self, memory, stoch, projected, is_first):
            assert not is_first.any()
            rows = self.out(self.from_stoch(stoch) + projected).cumsum(1)
            new = rows + memory.unsqueeze(1)
            return new, new

    module, (embed, action, is_first) = made(latent, Sum), sequence()
    rows = embed, action, torch.zeros_like(is_first)
    start = carry(module)
    with modes():
        states = module.observe(start, *rows)
        assert states.memory == ()
        assert states.carry.memory is states.deter
        for t in range(TIME):
            state = module.observe_step(start, *(x[:, t] for x in rows))
            torch.testing.assert_close(state, states[:, t], rtol=1e-4, atol=1e-5)
            start = state.carry


# -------------------------------------------------------------------------------------- imagination


def policy(state):
    return torch.tanh(state.feature()[:, :ACTION])


@every
@pytest.mark.parametrize("gradients", [False, True])
def test_imagination_remembers_and_keeps_light_rows(latent, gradients):
    module, rows = made(latent), sequence()
    with torch.set_grad_enabled(gradients), modes():
        start = module.observe(module.initial(BATCH), *rows).flatten().detach()
        states, actions = imagine(module, start, policy, 5)
        state, light = start, [start.light()]
        for t in range(5):
            state = module.imagine_step(state.carry, actions[:, t])
            assert isinstance(state.memory, Ring)
            light.append(state.light())
        rolled = rollout(module, start.carry, actions[:, :-1])
    assert isinstance(states.memory, Dropped)
    assert len(pytree.tree_leaves(states)) == len(pytree.tree_leaves(start)) - 2
    assert states.feature().shape == (BATCH * TIME, 6, module.feature_dim)
    for t in range(6):
        torch.testing.assert_close(states[:, t], light[t])
    torch.testing.assert_close(rolled, states[:, 1:])
    for dreamt in (states[:, -1], rolled[:, -1]):
        with pytest.raises(ValueError, match="this state is light"):
            _ = dreamt.carry
    with pytest.raises(ValueError, match="this state is light"):
        imagine(module, states[:, 2], policy, 1)


def test_imagination_forgets_nothing_of_the_ring():
    """Another oldest token changes the first imagined row, and no later one."""
    module, action = made(), torch.randn(BATCH, 3, ACTION)
    module.core.from_stoch.weight.data.zero_()
    full = carry(module, rows=REACH)
    other = full._replace(memory=full.memory._replace(token=full.memory.token.clone()))
    other.memory.token[:, 0] += 1
    ours, theirs = (rollout(module, start, action).deter for start in (full, other))
    assert (ours != theirs).any(-1).tolist() == [[True, False, False]] * BATCH


# ------------------------------------------------------------------------------------------ packing


class CountedRing(NamedTuple):
    token: Tensor
    count: Tensor


class PackingCore(RingCore):
    """Stores how many tokens there are: those at the end."""

    def pack(self, memory):
        return CountedRing(memory.token, memory.valid.sum(-1).to(torch.uint8))

    def unpack(self, packed):
        place = torch.arange(self.reach - 1, 0, -1)
        return Ring(packed.token, place <= packed.count.unsqueeze(-1))


class SignCore(RingCore):
    """Stores signs alone: nothing of a float is left of it in replay."""

    def pack(self, memory):
        return torch.where(memory.valid.unsqueeze(-1), memory.token.sign(), 0).to(torch.int8)

    def unpack(self, packed):
        token = packed.to(self.out.weight.dtype)
        return Ring(token, token.ne(0).any(-1))

    def step(self, memory, stoch, projected):
        deter, ring = super().step(memory, stoch, projected)
        return deter, ring._replace(token=ring.token.sign())


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of norms in float32, weights in float64
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_latent_is_unpacked_in_the_dtype_of_its_memory(dtype):
    """Of the memory that comes out, for what is stored of it may be integers."""
    module = made(core=SignCore).to(dtype)
    embed, action, is_first = sequence()
    states = module.observe(module.initial(BATCH), embed.to(dtype), action.to(dtype), is_first)
    for each in (states.carry, module.initial(BATCH)):
        packed = module.pack(each)
        assert {x.dtype for x in packed} == {torch.int8, torch.uint8}
        back = module.unpack(packed)
        assert {back.memory.token.dtype, back.stoch.dtype} == {dtype}
        same(back, each)


@every
@pytest.mark.parametrize("core", [RingCore, PackingCore])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_carry_is_packed_exactly(latent, core, dtype):
    module = made(latent, core)
    states = module.observe(module.initial(BATCH), *sequence())
    for each in (states.carry, module.initial(BATCH), states[:, 3].carry, carry(module)):
        each = pytree.tree_map(lambda x: x.to(dtype) if x.is_floating_point() else x, each)
        packed = module.pack(each)
        assert type(packed.memory) is (CountedRing if core is PackingCore else Ring)
        back = module.unpack(packed)
        assert (type(back), type(back.memory)) == (Carry, Ring)
        same(back, each)


def test_a_core_may_say_that_windows_start_from_nothing():
    module = made(core=Forgetful)
    assert (module.context, made().context) == (0, 1)
    assert module.pack(module.initial(BATCH)) == ()
    assert module.unpack(None) is None
    rows = sequence()
    with modes():
        ours, theirs = module.observe(None, *rows), module.observe(module.initial(BATCH), *rows)
    torch.testing.assert_close(ours, theirs)


# ----------------------------------------------------------------------------------------- messages


def flags(batch):
    return torch.zeros(batch, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": None}, r"the core RingCore has no step; see wb\.rssm\.Core"),
        ({"project_action": None, "deter": None}, r"has no deter, project_action"),
        ({"pack": lambda memory: memory}, r"has one of pack and unpack; it needs both or neither"),
        ({"context": 2}, r"the context of a core is 1 or 0, got 2 of RingCore"),
        ({"parameters": lambda: iter(())}, r"the core RingCore has no parameter"),
        ({"initial": lambda batch: ()}, r"the memory of the core RingCore has no tensor; one of f"),
        ({"initial": flags}, r"has \['torch.bool'\]; one of floats is needed.*deter as its memory"),
    ],
)
def test_a_core_without_a_part_of_the_protocol(change, message):
    module = made()
    for name, value in change.items():
        setattr(module.core, name, value)
    with pytest.raises(ValueError, match=message):
        RSSM(module.core, module.latent)


@pytest.mark.parametrize("latent", [CATEGORICAL, LATENTS["categorical decoupled"]])
def test_a_step_that_gives_a_bare_tensor_is_refused(latent):
    """Of two rows, which would pass for the pair."""
    module = made(latent)
    step = module.core.step
    module.core.step = lambda *given: step(*given)[0]
    message = (
        r"step of the core RingCore should return \(deter, memory\), got Tensor; a core whose "
        r"memory is its state returns it twice"
    )
    start, (embed, action, is_first) = module.initial(BATCH), sequence()
    with pytest.raises(ValueError, match=message):
        module.observe(start, embed, action, is_first)
    with pytest.raises(ValueError, match=message):
        module.observe_step(start, embed[:, 0], action[:, 0], is_first[:, 0])
    with pytest.raises(ValueError, match=message):
        module.imagine_step(start, action[:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ring: ring._replace(valid=ring.valid.float()),
            r"RSSM.observe: carry.memory.valid should be Bool\[Tensor, 'batch token'\], "
            r"got float32\[2, 3\]",
        ),
        (
            lambda ring: ring._replace(token=ring.token[:1]),
            r"carry.memory.token should be .*'batch token hidden'\], got float32\[1, 3, 6\]",
        ),
        (
            lambda ring: ring._replace(token=ring.token[:, 1:]),
            r"carry.memory.valid should be .*'batch token'\], got bool\[2, 3\]",
        ),
    ],
    ids=["dtype", "batch", "tokens"],
)
def test_a_wrong_memory_is_named(change, message):
    module = made()
    start = module.initial(BATCH)
    with pytest.raises(TypeCheckError, match=message):
        module.observe(start._replace(memory=change(start.memory)), *sequence())


def test_a_memory_of_another_size_is_refused():
    message = (
        r"carries tensors of the shapes \[\[2, 3, 6\], \[2, 3\], \[2, 5, 4\]\], "
        r"got \[\[2, 4, 6\], \[2, 4\], \[2, 5, 4\]\]: a carry of another model size\?"
    )
    with pytest.raises(ValueError, match=message):
        made().observe(made(reach=5).initial(BATCH), *sequence())


# ----------------------------------------------------------------------------------------- promises


@pytest.mark.parametrize("core", [RingCore, ScanningCore])
def test_it_keeps_the_promises_of_a_dynamics_block(core):
    with searching(share=0.25):
        report = wb.testing.check_dynamics(
            lambda: made(functools.partial(CATEGORICAL, absolute=core is ScanningCore), core),
            embed_dim=EMBED,
            action_dim=ACTION,
            prior=RSSM.prior,
            latent=lambda state: state.stoch,
        )
    assert not report.skipped

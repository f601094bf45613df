"""Carry and State, whatever the latent and whatever the core remembers."""

import pickle
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.rssm import AnyState, Carry, Dropped, State
from worldblocks.rssm.imagination import stack


class Ring(NamedTuple):
    """A memory of its own: two tokens and which of them are there."""

    token: Tensor
    valid: Tensor


def numbers(*shape):
    return torch.randn(shape, requires_grad=True)


def ring(*batch):
    return Ring(numbers(*batch, 2, 3), torch.rand(*batch, 2) < 0.5)


STOCH = {"one-hots": (5, 4), "numbers": (6,)}
KINDS = [
    pytest.param(stoch, with_memory, id=f"{stoch}{' and a ring' * with_memory}")
    for stoch in STOCH
    for with_memory in (False, True)
]
kinds = pytest.mark.parametrize(("stoch", "with_memory"), KINDS)


def state(*batch, stoch="one-hots", with_memory=False):
    shape = (*batch, *STOCH[stoch])
    parameters = numbers(*shape) if stoch == "one-hots" else (numbers(*shape), numbers(*shape))
    memory = ring(*batch) if with_memory else ()
    return State(numbers(*batch, 7), numbers(*shape), parameters, memory)


def same(ours, theirs):
    ours, theirs = (pytree.tree_flatten(x) for x in (ours, theirs))
    assert ours[1] == theirs[1]
    assert all(map(torch.equal, ours[0], theirs[0]))


# ------------------------------------------------------------------------------------------ reading


@kinds
def test_a_feature_is_deter_then_stoch(stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory)
    assert isinstance(rows, AnyState)
    width = rows.stoch[0, 0].numel()
    assert rows.feature().shape == (2, 3, 7 + width)
    assert torch.equal(rows.feature()[..., :7], rows.deter)
    assert torch.equal(rows.feature()[..., 7:].unflatten(-1, STOCH[stoch]), rows.stoch)
    deter, flat = rows.parts()
    assert deter is rows.deter
    assert torch.equal(flat, rows.feature()[..., 7:])


@pytest.mark.parametrize("stoch", STOCH)
def test_a_feature_has_the_dtype_of_deter(stoch):
    rows = state(2, stoch=stoch)._replace(deter=torch.zeros(2, 7).bfloat16())
    assert rows.feature().dtype == torch.bfloat16
    assert {part.dtype for part in rows.parts()} == {torch.bfloat16}


@pytest.mark.parametrize("stoch", STOCH)
def test_the_carry_is_memory_and_stoch(stoch):
    plain, own = state(2, stoch=stoch), state(2, stoch=stoch, with_memory=True)
    assert isinstance(plain.carry, Carry)
    assert plain.carry.memory is plain.deter
    assert plain.carry.stoch is plain.stoch
    assert own.carry == (own.memory, own.stoch)


def test_nothing_is_held_twice():
    assert len(pytree.tree_leaves(state(2))) == 3
    assert len(pytree.tree_leaves(state(2, stoch="numbers"))) == 4
    assert len(pytree.tree_leaves(state(2, with_memory=True))) == 5


# -------------------------------------------------------------------------------------------- light


def test_a_light_state_keeps_no_memory():
    rows = state(2, 3, with_memory=True)
    light = rows.light()
    assert light.memory == Dropped() == ()
    assert isinstance(light.memory, Dropped)
    assert all(light[field] is rows[field] for field in range(3))
    assert len(pytree.tree_leaves(light)) == 3
    assert torch.equal(light.feature(), rows.feature())
    assert light.light().memory == Dropped()


def test_nothing_continues_from_a_light_state():
    rows = state(2, 3, with_memory=True).light()
    message = (
        r"^this state is light: imagined rows keep no memory of their core, so nothing continues "
        r"from them; step from a state of `observe` or `imagine_step`$"
    )
    for each in (rows, rows.flatten(), rows[:, 1], rows.detach(), stack([rows, rows])):
        with pytest.raises(ValueError, match=message):
            _ = each.carry
        with pytest.raises(ValueError, match=message):
            _ = pickle.loads(pickle.dumps(each.detach())).carry


def test_a_state_whose_memory_is_deter_is_light_as_it_is():
    rows = state(2, 3)
    assert rows.light() is rows
    assert rows.light().carry.memory is rows.deter
    assert rows.flatten().light()[1:].carry.memory.shape == (5, 7)


# ------------------------------------------------------------------------------------------- shapes


@kinds
def test_flatten_merges_batch_and_time(stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory)
    flat = rows.flatten()
    for ours, whole in zip(pytree.tree_leaves(flat), pytree.tree_leaves(rows), strict=True):
        assert ours.shape == (6, *whole.shape[2:])
        assert torch.equal(ours[1 * 3 + 2], whole[1, 2])
    assert pytree.tree_structure(flat) == pytree.tree_structure(rows)


def test_a_single_row_cannot_be_flattened():
    with pytest.raises(ValueError, match=r"merges batch and time, got deter of shape \(2, 7\)"):
        state(2).flatten()


@kinds
@pytest.mark.parametrize(
    "index",
    [
        (slice(None), -1),
        (slice(None), slice(None, -1)),
        (1, 2),
        (..., 0),
        (0, ...),
        slice(1, None),
        torch.tensor([1, 0, 1]),
        torch.tensor([[True, False, True], [False, True, False]]),
        (slice(None), torch.tensor([2, 0])),
        (),
    ],
    ids=str,
)
def test_any_other_index_is_of_the_batch_axes(index, stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory)
    number = torch.arange(6).view(2, 3)[index]
    part = rows[index]
    assert pytree.tree_structure(part) == pytree.tree_structure(rows)
    for ours, whole in zip(pytree.tree_leaves(part), pytree.tree_leaves(rows), strict=True):
        assert torch.equal(ours, whole.flatten(0, 1)[number])


@kinds
@pytest.mark.parametrize("index", [(0, 0, 0), (..., 0, 0, 0)])
def test_what_is_no_batch_axis_cannot_be_indexed(index, stoch, with_memory):
    with pytest.raises(IndexError, match="too many indices"):
        state(2, 3, stoch=stoch, with_memory=with_memory)[index]


def test_anything_but_a_number_slices_the_batch():
    rows = state(3, 7, with_memory=True)
    assert torch.equal(rows[1:].deter, rows.deter[1:])
    assert torch.equal(rows[..., 2].stoch, rows.stoch[:, 2])
    assert torch.equal(rows[None].parameters, rows.parameters[None])
    chosen = torch.tensor([True, False, True])
    assert torch.equal(rows[chosen].memory.token, rows.memory.token[chosen])
    assert torch.equal(rows[chosen].carry.memory.valid, rows.memory.valid[chosen])


def test_a_number_is_a_field():
    rows = state(2, with_memory=True)
    assert rows[0] is rows.deter
    assert rows[-1] is rows.memory
    deter, _, parameters, _ = rows
    assert (deter is rows.deter, parameters is rows.parameters) == (True, True)
    assert state(2)[3] == ()


def test_stacking_rows_makes_a_time_axis():
    rows = [state(2, stoch="numbers", with_memory=True) for _ in range(3)]
    whole = stack(rows)
    same(whole[:, 1], rows[1])
    assert (whole.deter.shape, whole.memory.valid.shape) == ((2, 3, 7), (2, 3, 2))
    assert stack([state(2)] * 3).memory == ()


# ------------------------------------------------------------------------------------------- pytree


@kinds
def test_detach_cuts_every_tensor(stoch, with_memory):
    rows = state(2, stoch=stoch, with_memory=with_memory)
    for each in (rows, rows.carry):
        cut = each.detach()
        assert type(cut) is type(each)
        assert not any(x.requires_grad for x in pytree.tree_leaves(cut))
        same(cut, each)


@kinds
def test_a_function_is_mapped_over_every_tensor(stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory)
    mapped = rows.map(lambda x: x[:1])
    assert type(mapped) is State
    same(mapped, rows[:1])


@kinds
def test_it_is_a_pytree_and_can_be_pickled(stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory).detach()
    for each in (rows, rows.carry):
        same(pytree.tree_map(lambda x: x, each), each)
        same(pickle.loads(pickle.dumps(each)), each)
    doubled = pytree.tree_map(lambda x: 2 * x, rows)
    assert torch.equal(doubled.deter, 2 * rows.deter)


@kinds
def test_vmap_takes_it_row_by_row(stoch, with_memory):
    rows = state(2, 3, stoch=stoch, with_memory=with_memory)
    total = torch.func.vmap(lambda row: row.feature().sum())(rows.flatten())
    torch.testing.assert_close(total, rows.feature().sum(-1).flatten())
    back = torch.func.vmap(lambda row: row)(rows.flatten())
    same(back, rows.flatten())


@kinds
def test_capture(same_when_compiled, stoch, with_memory):
    leaves, form = pytree.tree_flatten(state(2, 3, stoch=stoch, with_memory=with_memory).detach())

    def read(*leaves):
        rows = pytree.tree_unflatten(list(leaves), form)
        return rows.flatten()[1:].feature(), rows[:, -1].carry, rows.light().detach()

    same_when_compiled(read, *leaves)

import pickle

import pytest
import torch
from torch.utils import _pytree as pytree

from worldblocks.rssm import Carry, State
from worldblocks.rssm.imagination import stack


def state(*batch):
    return State(
        torch.randn(*batch, 7, requires_grad=True),
        torch.randn(*batch, 5, 4, requires_grad=True),
        torch.randn(*batch, 5, 4, requires_grad=True),
    )


def test_a_feature_is_deter_then_stoch():
    rows = state(2, 3)
    feature = rows.feature()
    assert feature.shape == (2, 3, 27)
    assert torch.equal(feature[..., :7], rows.deter)
    assert torch.equal(feature[..., 7:].unflatten(-1, (5, 4)), rows.stoch)


def test_a_feature_has_the_dtype_of_deter():
    assert state(2)._replace(deter=torch.zeros(2, 7).bfloat16()).feature().dtype == torch.bfloat16


def test_the_carry_is_deter_and_stoch():
    rows = state(2)
    assert isinstance(rows.carry, Carry)
    assert rows.carry == (rows.deter, rows.stoch)


def test_flatten_merges_batch_and_time():
    rows = state(2, 3)
    flat = rows.flatten()
    assert [tuple(x.shape) for x in flat] == [(6, 7), (6, 5, 4), (6, 5, 4)]
    assert torch.equal(flat.deter[1 * 3 + 2], rows.deter[1, 2])


def test_a_single_row_cannot_be_flattened():
    with pytest.raises(ValueError, match=r"merges batch and time, got deter of shape \(2, 7\)"):
        state(2).flatten()


def test_detach_cuts_every_field():
    assert not any(x.requires_grad for x in (*state(2).detach(), *state(2).carry.detach()))
    assert isinstance(state(2).carry.detach(), Carry)


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
def test_any_other_index_is_of_the_batch_axes(index):
    rows = state(2, 3)
    numbers = torch.arange(6).view(2, 3)[index]
    for part, whole in zip(rows[index], rows, strict=True):
        assert torch.equal(part, whole.flatten(0, 1)[numbers])


@pytest.mark.parametrize("index", [(0, 0, 0), (..., 0, 0, 0)])
def test_what_is_no_batch_axis_cannot_be_indexed(index):
    with pytest.raises(IndexError, match="too many indices"):
        state(2, 3)[index]


def test_a_number_is_a_field():
    rows = state(2)
    assert rows[0] is rows.deter
    assert rows[-1] is rows.logits
    deter, *_ = rows
    assert deter is rows.deter


def test_it_is_a_pytree_and_can_be_pickled():
    rows = state(2, 3)
    doubled = pytree.tree_map(lambda x: 2 * x, rows)
    assert isinstance(doubled, State)
    assert torch.equal(doubled.deter, 2 * rows.deter)
    copied = pickle.loads(pickle.dumps(rows.detach()))
    assert torch.equal(copied.stoch, rows.stoch)
    mean = torch.func.vmap(lambda row: row.feature().sum())(rows.flatten())
    torch.testing.assert_close(mean, rows.feature().sum(-1).flatten())


def test_stacking_rows_makes_a_time_axis():
    rows = [state(2) for _ in range(3)]
    whole = stack(rows)
    assert torch.equal(whole[:, 1].stoch, rows[1].stoch)
    assert whole.deter.shape == (2, 3, 7)


def test_anything_but_a_number_slices_the_batch():
    deter, stoch = torch.randn(3, 7, 5), torch.randn(3, 7, 2, 4)
    state = State(deter, stoch, stoch)
    assert torch.equal(state[1:].deter, deter[1:])
    assert torch.equal(state[..., 2].stoch, stoch[:, 2])
    assert torch.equal(state[None].logits, stoch[None])
    chosen = torch.tensor([True, False, True])
    assert torch.equal(state[chosen].deter, deter[chosen])
    assert state[0] is deter  # a tuple's field

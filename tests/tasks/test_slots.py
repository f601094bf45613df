"""A few heads shared by many tasks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from worldblocks.optim import LaProp
from worldblocks.tasks import Slots, renew


def test_who_was_used_longest_ago_leaves():
    slots = Slots(3)
    assert slots.use([4, 2, 4]) == [0, 1]
    assert slots.use([7]) == [2]
    assert slots.use([4]) == []
    assert slots.use([9]) == [1], "2 was used before 7 and 4"
    assert slots.tasks == [4, 9, 7]
    assert [slots.of(task) for task in (4, 9, 7)] == [0, 1, 2]


def test_who_is_played_keeps_its_head():
    """1 is the least recently used, but is used together with the new one."""
    slots = Slots(2)
    slots.use([1])
    slots.use([2])
    assert slots.use([3, 1]) == [1]
    assert slots.tasks == [1, 3]


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3), max_size=20))
def test_as_a_list_in_order_of_use(uses):
    """The tasks with a head are the last ones of the order in which they were used."""
    slots, order = Slots(3), []
    for tasks in uses:
        had = list(slots.tasks)
        changed = slots.use(tasks)
        distinct = list(dict.fromkeys(tasks))
        order = [task for task in order if task not in distinct] + distinct
        assert {x for x in slots.tasks if x is not None} == set(order[-3:])
        assert changed == [i for i in changed if had[i] != slots.tasks[i]]
        kept = [i for i in range(3) if i not in changed]
        assert all(had[i] == slots.tasks[i] for i in kept)
        copy = Slots(3)
        copy.load_state_dict(slots.state_dict())
        slots = copy


def test_a_head_begins_anew_where_it_is():
    torch.manual_seed(0)
    head, other, fresh = nn.Linear(3, 1), nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = LaProp([*head.parameters(), *other.parameters()])
    (head(torch.ones(2, 3)) + other(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    place, kept = head.weight.data_ptr(), optimizer.state[other.weight]["momentum"].clone()
    renew(head, fresh, optimizer)
    assert torch.equal(head.weight, fresh.weight)
    assert head.weight.data_ptr() == place
    assert all(not x.any() for x in optimizer.state[head.weight].values())
    assert torch.equal(optimizer.state[other.weight]["momentum"], kept)
    optimizer.state_dict()


def test_messages():
    with pytest.raises(ValueError, match="must be at least one head, got 0"):
        Slots(0)
    with pytest.raises(ValueError, match="3 tasks cannot share 2 heads at once; give"):
        Slots(2).use([1, 2, 3])
    with pytest.raises(KeyError, match=r"task 5 has no head; \[None, None\] have"):
        Slots(2).of(5)

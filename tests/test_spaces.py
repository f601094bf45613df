import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.spaces import (
    Continuous,
    Discrete,
    Grid,
    Image,
    action_size,
    one_hot_action,
    split_action,
)

MIXED = {"jump": Discrete(3), "arm": Continuous((2,)), "keys": Discrete(2, (4,))}  # 2 + 3 + 8


def test_sizes():
    assert Image(7, 5, 3).shape == (7, 5, 3)
    assert Grid(7, 5, 3, 2).shape == (7, 5, 3)
    assert (Continuous().size, Continuous((2, 3)).size) == (1, 6)
    assert (Discrete(4).size, Discrete(4, (2, 3)).size) == (4, 24)
    assert action_size(MIXED) == 13
    assert action_size({}) == 0


def test_a_vector_is_split_in_sorted_key_order():
    jump, arm, keys = [0, 0, 1], [0.5, -1], [0, 1, 1, 0, 0, 1, 1, 0]
    parts = split_action(MIXED, np.array([*arm, *jump, *keys], np.float32))
    assert list(parts) == ["arm", "jump", "keys"]
    assert parts["arm"].tolist() == [0.5, -1]
    assert (parts["jump"], parts["jump"].dtype) == (2, np.int64)
    assert parts["keys"].tolist() == [1, 0, 1, 0]


def test_a_reset_action_is_class_zero():
    assert split_action({"jump": Discrete(3)}, np.zeros(3, np.float32))["jump"] == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (5,), (5, 2)]), st.booleans())
def test_splitting_undoes_joining(seed, batch, torch_in):
    rng = np.random.default_rng(seed)
    values = {
        "jump": rng.integers(0, 3, batch),
        "arm": rng.standard_normal((*batch, 2)).astype(np.float32),
        "keys": rng.integers(0, 2, (*batch, 4)),
        "z": rng.standard_normal(batch, np.float32),
    }
    actions = {"z": Continuous(), **MIXED}
    vector = one_hot_action(actions, values)
    assert (vector.dtype, vector.shape) == (torch.float32, (*batch, 14))
    for key, part in split_action(actions, vector if torch_in else vector.numpy()).items():
        assert isinstance(part, torch.Tensor) == torch_in
        np.testing.assert_array_equal(np.asarray(part), values[key])


def test_a_vector_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"is a vector of 13 numbers, got shape \(2, 12\)"):
        split_action(MIXED, np.zeros((2, 12), np.float32))
    with pytest.raises(ValueError, match=r"got shape \(\)"):
        split_action(MIXED, torch.tensor(1.0))


def test_misspelt_keys_are_refused():
    with pytest.raises(ValueError, match=r"has the keys \['jump'\], got \['jmup'\]"):
        one_hot_action({"jump": Discrete(3)}, {"jmup": torch.tensor(1)})


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"action 'jump' must be in 0 … 2, got -1 … 3"):
        one_hot_action({"jump": Discrete(3)}, {"jump": torch.tensor([-1, 3])})


def test_a_value_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"action 'arm' is Continuous.*got shape \(5,\)"):
        one_hot_action({"arm": Continuous((2,))}, {"arm": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"action 'arm' is Continuous.*got shape \(\)"):
        one_hot_action({"arm": Continuous((2,))}, {"arm": torch.tensor(0.0)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image(64, 0, 3),
        lambda: Grid(8, 8, 12, 0),
        lambda: Continuous(3),  # type: ignore[arg-type]
        lambda: Continuous([3]),  # type: ignore[arg-type]
        lambda: Discrete(0),
        lambda: Discrete(4, (-1,)),
        lambda: Discrete(2.5),  # type: ignore[arg-type]
    ],
)
def test_impossible_sizes_are_refused(make):
    with pytest.raises(
        ValueError, match=r"positive integers, and a shape is a tuple .*; got (I|G|C|D)"
    ):
        make()


def test_spaces_are_values():
    assert Discrete(4) == Discrete(4, ())
    assert len({Continuous((3,)), Continuous((3,)), Continuous((4,))}) == 2
    with pytest.raises(AttributeError, match="cannot assign to field"):
        Discrete(4).classes = 5  # type: ignore[misc]


def test_a_grid_in_one_hots():
    value = torch.tensor([[[0, 2]], [[1, 3]]], dtype=torch.uint8)
    assert Grid(2, 1, 2, 3).one_hot(value).int().tolist() == [
        [[[1, 0, 0], [0, 0, 1]]],
        [[[0, 1, 0], [0, 0, 0]]],
    ]
    with pytest.raises(ValueError, match=r"uint8 and has 256 classes at most; got Grid\(.*257\)"):
        Grid(8, 8, 1, 257)

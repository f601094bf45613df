"""A nested state round-trips: values, types, structure."""

import collections
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.run.saves.nested import escape, flatten, unescape, unflatten


def through(state):
    tensors, skeleton = flatten(state)
    return unflatten(json.loads(json.dumps(skeleton)), lambda name: tensors[name].clone())


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64),
]
arrays = st.sampled_from(["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]).map(
    lambda d: np.arange(6).reshape(2, 3).astype(d)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 2**128),  # the state of a PCG64
    st.floats(),
    st.text(),
    st.binary(),
    st.sampled_from(DTYPES).map(lambda d: torch.arange(4).reshape(2, 2).to(d)),
    st.sampled_from([torch.tensor(2.5), torch.zeros(0), torch.zeros(3, 0, 2), torch.ones(2, 3).T]),
    arrays,
    st.sampled_from([np.float32(0.1), np.int64(7), np.bool_(True), np.float64(0.1), np.array(3.0)]),
)
keys = st.text(max_size=4) | st.sampled_from(
    ["a/b", "a", "~", "~1", "/", "", "tensor", "dict", "0"]
)
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys | st.integers(-2, 2), inner, max_size=4),
    ),
    max_leaves=8,
)


@given(states)
def test_round_trip(state):
    assert same(through(state), state)


def test_names_are_paths():
    state = {"agent": {"encoder.weight": torch.ones(2)}, "optim": [{"a/b": np.ones(3)}, b"xy"]}
    tensors, skeleton = flatten(state)
    assert list(tensors) == ["agent/encoder.weight", "optim/0/a~1b", "optim/1"]
    assert skeleton["dict"]["optim"][1] == {"bytes": "optim/1"}


@pytest.mark.parametrize("state", [{"a": {"b": torch.ones(1)}, "a/b": torch.zeros(1)}])
def test_paths_do_not_collide(state):
    assert same(through(state), state)


def test_integer_and_string_keys_of_one_dict():
    state = {0: torch.zeros(1), "0": torch.ones(1)}
    assert same(through(state), state)


@given(st.text())
def test_unescape_is_the_inverse(key):
    assert unescape(escape(key)) == key
    assert "/" not in escape(key)


def test_tensors_are_copies_on_the_cpu():
    weight = torch.ones(2, requires_grad=True)
    tied = {"a": weight, "b": weight, "c": torch.ones(4, 3)[:, ::2]}
    tensors, _ = flatten(tied)
    assert tensors["a"].data_ptr() != tensors["b"].data_ptr() != weight.data_ptr()
    assert not tensors["a"].requires_grad
    assert tensors["c"].is_contiguous()


def test_mappings_become_dicts_and_big_endian_becomes_native():
    out = through(collections.OrderedDict(a=np.arange(3, dtype=">i4")))
    assert type(out) is dict
    assert out["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"agent": {"f": {1, 2}}}, "'agent/f' is <class 'set'>; a checkpoint holds tensors, numer"),
        ({"a": np.array(["x"])}, "'a' is an array of <U1; a checkpoint holds tensors, numeric"),
        (object(), "'the state' is <class 'object'>; a checkpoint holds"),
        ({"a": {2.5: 1}}, "the dict at 'a' has the key 2.5; the keys of a checkpoint are strings"),
        ({True: 1}, "the dict at 'the top' has the key True; the keys of a checkpoint are strings"),
    ],
)
def test_what_a_checkpoint_does_not_hold(state, message):
    with pytest.raises(TypeError, match=message):
        flatten(state)

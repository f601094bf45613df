import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from worldblocks.envs.packing import pack, unpack

values = st.dictionaries(st.text(), st.integers(-(2**127), 2**127) | st.booleans() | st.text())
parts = st.dictionaries(st.text(), arrays(np.uint8, array_shapes(min_dims=1, min_side=0)))


@given(values, parts)
def test_unpack_inverts_pack(values, parts):
    got_values, got_parts = unpack(pack(values, parts))
    assert got_values == values
    assert got_parts.keys() == parts.keys()
    for name, array in parts.items():
        np.testing.assert_array_equal(got_parts[name], array, strict=True)


@given(st.data())
def test_damage_is_noticed(data):
    state = pack({"step": 3}, {"frame": np.arange(11, dtype=np.uint8)})
    at = data.draw(st.integers(0, len(state) - 1))
    altered = state[:at] + bytes([state[at] ^ data.draw(st.integers(1, 255))]) + state[at + 1 :]
    for damaged in (state[:at], altered):
        with pytest.raises(ValueError, match=f"from {len(damaged)} bytes that are damaged or not"):
            unpack(damaged)

from typing import Annotated

import pytest
import torch
from jaxtyping import TypeCheckError
from replay_rows import filled

from worldblocks.replay import Batch
from worldblocks.typing import typed


def test_what_a_batch_is_made_of():
    batch = filled(13, streams=3).sample(2)
    assert batch.obs["image"].shape == (2, 5, 4, 6, 1)
    assert batch.obs["image"].dtype == torch.uint8
    assert batch.prev_action.shape == (2, 5, 5)
    assert {tuple(leaf.shape) for leaf in batch[2:6]} == {(2, 5)}
    assert batch.carry.deter.shape == (2, 7)
    torch.testing.assert_close(batch.row, batch.obs["which"])


def test_to_moves_all_but_the_identity_of_rows():
    batch = filled(13).sample(2)
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, Batch)
    assert moved.row is batch.row
    leaves = [moved.obs["image"], moved.is_first, moved.carry.deter, moved.carry.more[0]]
    assert {leaf.device.type for leaf in leaves} == {"meta"}
    assert type(moved.carry) is type(batch.carry)


def test_to_keeps_a_missing_carry():
    batch = filled(13, context=0).sample(2)
    assert batch.carry is None
    assert batch.to("meta").carry is None


def test_a_field_of_another_shape_is_named_at_a_typed_door():
    @typed
    def door(batch: Annotated[Batch, "batch time"]) -> None:
        pass

    batch = filled(13).sample(2)
    door(batch)
    with pytest.raises(TypeCheckError, match=r"batch.reward should be .* got float32\[2, 4\]"):
        door(batch._replace(reward=batch.reward[:, 1:]))


def test_the_last_rows_of_a_batch():
    time = torch.arange(5.0).expand(2, 5)
    flag = time > 3
    carry = {"deter": torch.zeros(2, 7)}
    whole = Batch({"x": time[..., None]}, time[..., None], time, flag, flag, flag, carry, None)
    part = whole.last(2)
    assert part.reward.tolist() == [[3, 4]] * 2
    assert part.obs["x"].shape == (2, 2, 1)
    assert part.is_last.tolist() == [[False, True]] * 2
    assert (part.carry, part.row) == (None, None)
    assert whole.last(5).reward.tolist() == time.tolist()
    for rows in (0, -1, 6):
        match = rf"last\({rows}\) was called on windows of 5 rows; use 1 to 5"
        with pytest.raises(ValueError, match=match):
            whole.last(rows)

"""Broken promises of torchrl, reproduced without the checks: `python tests/peers/by_hand.py`."""

import tempfile

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.modules import RSSMPriorV3


def buffer() -> TensorDictReplayBuffer:
    """Six rows, slices of three."""
    sampler = SliceSampler(slice_len=3, traj_key="stream", init_key=None, truncated_key=None)
    return TensorDictReplayBuffer(storage=LazyTensorStorage(6), sampler=sampler)


def row(step: int, first: bool = False) -> TensorDict:
    """One row of the only stream, without an episode end."""
    flags = {"is_init": torch.tensor([[first]]), ("next", "done"): torch.tensor([[False]])}
    numbers = {"step": torch.tensor([step]), "stream": torch.tensor([0])}
    return TensorDict({**numbers, **flags}, [1])


def broken_slices(given: TensorDictReplayBuffer) -> int:
    """The number of slices among a thousand whose rows are not consecutive."""
    steps = given.sample(3000)["step"].view(-1, 3)
    return int((steps.diff(dim=1) != 1).any(1).sum())


def a_loaded_buffer() -> None:
    """Ten rows in six slots, saved and loaded, then one more row."""
    saved, loaded = buffer(), buffer()
    for step in range(10):
        saved.extend(row(step))
    with tempfile.TemporaryDirectory() as folder:
        saved.dumps(folder)
        loaded.loads(folder)
    print("broken slices of 1000, saved:", broken_slices(saved), "loaded:", broken_slices(loaded))
    loaded.extend(row(10))
    print("… loaded, one more row later:", broken_slices(loaded))


def an_abandoned_episode() -> None:
    """A new episode starts at row 2, and row 1 was added without an end."""
    given = buffer()
    for step in range(3):
        given.extend(row(step, first=step == 2))
    found = given.sample(3)
    print("is_init", found["is_init"].flatten().tolist())
    print("done", found["next", "done"].flatten().tolist())


def one_row_of_one_stream() -> None:
    """In a storage with two axes."""
    given = TensorDictReplayBuffer(storage=LazyTensorStorage(6, ndim=2))
    try:
        given.extend(row(0)[None])
    except RuntimeError as error:
        print("shape [1, 1]:", error)


def the_default_core() -> None:
    """In float64, and on the meta device."""
    sizes = {"hidden_dim": 8, "rnn_hidden_dim": 8, "num_categoricals": 2, "num_classes": 4}
    prior = RSSMPriorV3(action_shape=(2,), action_dim=2, **sizes)
    for name, to in (("float64", {"dtype": torch.float64}), ("meta", {"device": "meta"})):
        try:
            prior.to(**to)(*(torch.zeros(3, width, **to) for width in (8, 8, 2)))
        except RuntimeError as error:
            print(f"{name}:", error)
        prior = prior.float()
    try:
        torch.amp.autocast(device_type="meta", enabled=False)
    except RuntimeError as error:
        print("torch.amp.autocast('meta'):", error)


if __name__ == "__main__":
    for look in (a_loaded_buffer, an_abandoned_episode, one_row_of_one_stream, the_default_core):
        look()

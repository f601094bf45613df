"""Sequence replay: stored experience, sampled in windows.

>>> import torch
>>> replay = SequenceReplay(capacity=100, streams=2, length=4, context=0)
>>> flag = torch.zeros(2, dtype=torch.bool)
>>> for t in range(6):
...     replay.add(
...         obs={"count": torch.full((2, 1), float(t))},
...         prev_action=torch.zeros(2, 3),
...         reward=torch.zeros(2),
...         is_first=flag,
...         is_last=flag,
...         is_terminal=flag,
...         carry=None,
...     )
>>> len(replay)  # windows of 4 rows start at rows 0, 1 and 2 of each stream
6
>>> replay.sample(1).obs["count"].flatten()  # the online queue starts at row 1
tensor([1., 2., 3., 4.])
"""

from worldblocks.replay.batch import Batch
from worldblocks.replay.data.arrays import episode_from_numpy
from worldblocks.replay.data.minari import read_minari
from worldblocks.replay.data.npz import read_npz, write_npz
from worldblocks.replay.data.spaces import observation_spaces
from worldblocks.replay.labels import Labels, Relabel, relabel
from worldblocks.replay.mixture import Mixture, MixtureReplay, labelled
from worldblocks.replay.selectors import Drawn, OnlineFirst, Selector, Uniform
from worldblocks.replay.sequence import SequenceReplay
from worldblocks.replay.storage.memory import Memory, MemoryMapped, OnDevice
from worldblocks.replay.storage.stored import Stored

__all__ = [
    "Batch",
    "Drawn",
    "Labels",
    "Memory",
    "MemoryMapped",
    "Mixture",
    "MixtureReplay",
    "OnDevice",
    "OnlineFirst",
    "Relabel",
    "Selector",
    "SequenceReplay",
    "Stored",
    "Uniform",
    "episode_from_numpy",
    "labelled",
    "observation_spaces",
    "read_minari",
    "read_npz",
    "relabel",
    "write_npz",
]

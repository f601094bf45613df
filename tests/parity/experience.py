"""Groups l and m: replay, the train ratio, images from raw frames."""

from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from parity.arrays import Arrays
from parity.record import Check, Excepted, Record
from worldblocks.envs import Atari, atari_image
from worldblocks.replay import Batch, SequenceReplay
from worldblocks.replay.storage import host_rings, rings
from worldblocks.run import Ratio

EVICTED = (
    "queued windows that the reference still serves from storage chunks which outlive their items; "
    "a buffer that evicts by row has skipped them"
)
DRAWS = 100  # uniform draws per valid start, so that none is missed


def replay_checks(file: Arrays) -> Iterator[Check]:
    """Counters, valid starts, queue, flags, write-back; then the train ratio."""
    case = f"{file.name} windows"
    what = "replay: length, starts, online queue, flags"
    yield Check("l", case, what, lambda r: _windows(r, file))
    yield Check("l", f"{file.name} write-back", "latents written back", lambda r: _back(r, file))
    for name in file.parts():
        if name.startswith("ratio"):
            what = "updates granted per call"
            yield Check("l", f"{file.name} {name}", what, lambda r, n=name: _ratio(r, file, n))


def _filled(
    file: Arrays, length: int, context: int, latents: Tensor
) -> tuple[SequenceReplay, list[int], list[int]]:
    """A replay with the recorded rows, and its lengths and queue sizes after each row."""
    streams, capacity = int(file["workers"]), int(file["capacity"])
    # The reference evicts across all workers, we evict per stream. The next multiple of the number
    # of workers keeps all rows that the reference keeps.
    capacity = -(-capacity // streams) * streams
    replay = SequenceReplay(capacity=capacity, streams=streams, length=length, context=context)
    lengths, queued = [], []
    for t in range(int(file["steps"])):
        _add(replay, t, file.tensor("in_first")[:, t], file.tensor("in_last")[:, t], latents[:, t])
        lengths.append(min(len(replay), int(file["capacity"])))
        queued.append(replay.queued)
    return replay, lengths, queued


@mock.patch.object(rings, "check_begins", new=mock.Mock())
@mock.patch.object(host_rings, "check_begins", new=mock.Mock())
def _add(replay: SequenceReplay, t: int, first: Tensor, last: Tensor, latent: Tensor) -> None:
    """Add a row; the recorded flags are random, so that an end need not be followed by a reset."""
    streams = len(first)
    replay.add(
        obs={"w": torch.arange(streams), "t": torch.full((streams,), t)},
        prev_action=torch.zeros(streams, 1),
        reward=torch.zeros(streams),
        is_first=first,
        is_last=last,
        is_terminal=torch.zeros(streams, dtype=torch.bool),
        carry=latent,
    )


def _windows(record: Record, file: Arrays) -> None:
    length, streams = int(file["length"]), int(file["workers"])
    latents = torch.zeros(streams, int(file["steps"]), 1)
    replay, lengths, queued = _filled(file, length, 0, latents)
    # The reference's workers add one after the other; ours advance together.
    together = slice(streams - 1, None, streams)
    record.value("len_after_each_add", lengths, file["len_after_each_add"][together])
    record.value("queue_after_each_add", queued, file["queue_after_each_add"][together])
    batch = replay.sample(DRAWS * len(replay), length=length)
    starts = {start: i for i, start in enumerate(_starts(batch))}
    listed = sorted((int(w), int(t)) for w, t in file["available_starts"])
    found = [pair for pair in sorted(starts) if pair in listed or len(replay) == len(listed)]
    record.value("available_starts", found, np.array(listed))

    kept, gone = _queue(file, min(t for _, t in starts))
    if gone:
        names = [name for name in file if name.startswith("online.")]
        elements = sum(file[name][gone].size for name in names)
        record.excepted = Excepted(elements, EVICTED)
    drained = replay.sample(len(kept) + 1)
    for name, ours in {"w": drained.obs["w"], "t": drained.obs["t"]}.items():
        record.value(f"online.{name}", ours[: len(kept)], file[f"online.{name}"][kept])
    for group, rows in {"online": range(len(gone), len(file["online.w"])), "uniform": None}.items():
        arrays = file.at(group)
        rows = range(len(arrays["w"])) if rows is None else rows
        at = [starts[int(arrays["w"][i, 0]), int(arrays["t"][i, 0])] for i in rows]
        for name, ours in {"is_first": batch.is_first, "is_last": batch.is_last}.items():
            record.value(f"{group}.{name}", ours[at], arrays[name][list(rows)])


def _starts(batch: Batch) -> list[tuple[int, int]]:
    """Stream and time of the first row of each window."""
    pairs = zip(batch.obs["w"][:, 0].tolist(), batch.obs["t"][:, 0].tolist(), strict=True)
    return list(pairs)


def _queue(file: Arrays, oldest: int) -> tuple[list[int], list[int]]:
    """Recorded windows from the queue: those we still have, and those we evicted.

    Entry e of the queue is window e // workers of worker e % workers, the first at row 1. The
    record starts with the remaining entries, in order, until the queue was empty.
    """
    length, streams = int(file["length"]), int(file["workers"])
    first = (int(file["online.t"][0, 0]) - 1) // length * streams + int(file["online.w"][0, 0])
    entries = range(first, int(file["queue_after_each_add"][-1]))
    rows = list(range(min(len(entries), len(file["online.t"]))))
    kept = [i for i in rows if file["online.t"][i, 0] >= oldest]
    return kept, [i for i in rows if i not in kept]


def _back(record: Record, file: Arrays) -> None:
    """Write back a window with some evicted rows, and read every stored latent.

    A stored latent can be read as the carry before a window's first row. So the context is one row,
    windows have one row, and one more row is added to read the newest latent.
    """
    length, streams, steps = (int(file[name]) for name in ("length", "workers", "steps"))
    keys, reference = file["writeback.keys"], file["writeback.lat"]
    worker, start = (int(x) for x in file["writeback.window"])
    written = (keys[:, 0] == worker) & (keys[:, 1] >= start) & (keys[:, 1] < start + length)
    stored, after = _latents(keys, reference, written)
    latents = np.full((streams, steps + 1, reference.shape[1]), -7.0, np.float32)
    latents[tuple(keys.T)] = stored
    latents = torch.from_numpy(latents)
    replay, _, _ = _filled(file, length - 1, 1, latents)
    new = np.full((length, reference.shape[1]), after, np.float32)
    rows = (start + torch.arange(length)) * streams + worker
    replay.write_back(rows, torch.from_numpy(new))
    read: dict[tuple[int, int], Tensor] = {}
    for t in (steps, None):
        batch = replay.sample(DRAWS * steps * streams, length=1)
        before = [(w, t - 1) for w, t in _starts(batch)]
        read |= dict(zip(before, batch.carry, strict=True))
        if t is not None:
            none = torch.zeros(streams, dtype=torch.bool)
            _add(replay, t, none, none, latents[:, t])
    ours = torch.stack([read[int(w), int(t)] for w, t in keys])
    record.value("writeback.lat", ours, reference)


def _latents(
    keys: np.ndarray, reference: np.ndarray, written: np.ndarray
) -> tuple[np.ndarray, float]:
    """The latents that rows were stored with, and the number that replaced some of them.

    In the record a row's latent is `step * worker + time`. If that does not fit, the recorded
    latents themselves are stored.
    """
    worker, time = keys[:, :1], keys[:, 1:]
    others = ~written & (keys[:, 0] > 0)
    step = np.round(np.median((reference - time)[others] / worker[others])) if others.any() else 0
    stored = (step * worker + time) * np.ones_like(reference)
    if not np.isclose(stored, reference, rtol=0.01)[~written].mean() > 0.5:
        stored = reference
    return stored, float(np.median(reference[written])) if written.any() else 0.0


def _ratio(record: Record, file: Arrays, name: str) -> None:
    arrays = file.at(name)
    due = Ratio(arrays.number("ratio"))
    granted = [due(int(step)) for step in arrays["steps"]]
    record.value(f"{name}.updates", granted, arrays["updates"])


class Scripted:
    """An emulator for `Atari` that shows given frames, one per emulated frame."""

    def __init__(self, frames: np.ndarray, reward: float) -> None:
        self.game, self.legal_actions, self.minimal_actions = "scripted", [0], [0]
        self.screen = frames.shape[1:3]
        self._frames, self._reward, self._at = frames, reward, 0

    def reset(self) -> None:
        """Back to the first frame."""
        self._at = 0

    def act(self, code: int) -> float:
        """Show the next frame; the first one gives the reward."""
        self._at += 1
        return self._reward if self._at == 1 else 0.0

    def over(self) -> bool:
        """The game itself never ends."""
        return False

    def screen_into(self, frame: np.ndarray) -> None:
        """Write the current frame."""
        frame[:] = self._frames[max(self._at - 1, 0)]


def image_checks(file: Arrays) -> Iterator[Check]:
    """Raw frames through the Atari adapter, with a time limit at the last one."""
    for case in file.parts():
        if f"{case}.image" in file:
            what = "Atari: maximum, resize, grey; reward, time limit"
            yield Check("m", f"{file.name} {case}", what, lambda r, c=case: _image(r, file, c))


def _image(record: Record, file: Arrays, case: str) -> None:
    arrays, frames = file.at(case), file["frames"]
    size, gray = arrays["image"].shape[0], arrays["image"].shape[2] == 1
    game = Atari(
        Scripted(frames, arrays.number("reward")),
        size=size,
        gray=gray,
        repeat=len(frames),
        sticky=0.0,
        noops=0,
        full_actions=False,
        max_frames=len(frames),
        timeout_is_terminal=True,
    )
    game.reset(0)
    row = game.step({"action": np.array(0)})
    record.value(f"{case}.image", row.obs["image"], arrays["image"])
    record.value(f"{case}.image", atari_image(frames, size=size, gray=gray), arrays["image"])
    terminal = "is_terminal_when_only_last"
    record.values_of(arrays, case, reward=row.reward, **{terminal: row.is_terminal})

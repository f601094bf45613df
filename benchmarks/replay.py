"""Subject: sequence replay."""

import itertools
from collections.abc import Mapping
from typing import Any

from benchmarks.stores import Store, measured, tensor_rows
from benchmarks.subject import Case, Contestant, Subject
from benchmarks.tables import number, speed
from benchmarks.work import Work
from benchmarks.worker import Timed

TORCHRL = {"tensor": "torchrl (tensors)", "memmap": "torchrl (memory-mapped)"}


def ours(work: Work) -> Timed:
    """worldblocks without a stored carry; of the others, only r2dreamer stores one."""
    from benchmarks.torch_tools import prepare, versions
    from worldblocks.replay import SequenceReplay, Uniform

    prepare(work.threads)
    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        # The capacity counts window starts, of which there are fewer than rows.
        starts = capacity - work.streams * (length - 1)
        replay = SequenceReplay(
            capacity=starts, streams=work.streams, length=length, context=0, selector=Uniform()
        )
        rows = []
        for row in tensor_rows(work, image):
            kept = {key: row[key] for key in ("reward", "is_first", "is_last", "is_terminal")}
            obs = {"obs": {"it": row["obs"]}, "prev_action": row["action"], "carry": None}
            rows.append({**kept, **obs})
        upcoming = itertools.cycle(rows)
        return Store(lambda: replay.add(**next(upcoming)), lambda: replay.sample(windows))

    return measured(work, make, versions=versions("worldblocks", "torch"))


def floor(work: Work) -> Timed:
    """The copy floor: rows written into arrays, windows copied out of them."""
    import torch

    from benchmarks.torch_tools import prepare, versions

    prepare(work.threads)
    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        rows, places = tensor_rows(work, image), itertools.count()
        slots = capacity // work.streams
        kept = {
            key: torch.empty(work.streams, slots, *value.shape[1:], dtype=value.dtype)
            for key, value in rows[0].items()
        }

        def add() -> None:
            place = next(places)
            for key, value in rows[place % len(rows)].items():
                kept[key][:, place % slots] = value

        def sample() -> dict[str, torch.Tensor]:
            start = torch.randint(slots - length + 1, (windows,)).tolist()
            stream = torch.randint(work.streams, (windows,)).tolist()
            found = {}
            for key, ring in kept.items():
                out = ring.new_empty(windows, length, *ring.shape[2:])
                for window, (one, begin) in enumerate(zip(stream, start, strict=True)):
                    out[window] = ring[one, begin : begin + length]
                found[key] = out
            return found

        return Store(add, sample)

    note = "contiguous slices into fresh tensors; no index, no checks, no episode ends"
    return measured(work, make, note=note, versions=versions("torch"))


def cases(work: Work) -> dict[str, Case]:
    """Times of adding and sampling, then memory."""
    windows, rows = work.sample
    add = f"add, {work.streams} environments at a time"
    return {
        "add": Case(f"{add}, images, into a full store", "µs"),
        "add_proprio": Case(f"{add}, vectors, into a full store", "µs"),
        "sample": Case(f"sample {windows} × {rows} as tensors"),
        "memory_image": Case(f"memory of {work.image_steps:,} image steps", "MiB"),
        "memory_proprio": Case(f"memory of {work.proprio_steps:,} proprio steps", "MiB"),
    }


def summary(found: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Compared with the copy of the bytes."""
    sides, ratios = found["add"]["sides"], found["sample"]["ratios"].get("worldblocks", {})
    if "copy floor" not in ratios:
        return ""
    ours, copy = (number(sides[name]["figure"]) for name in ("worldblocks", "copy floor"))
    return (
        f"Adding a row to a replay takes {ours} µs a step; copying its bytes alone takes {copy} "
        f"µs. Sampling runs at {speed(ratios['copy floor'])} the speed of such a copy."
    )


SUBJECT = Subject(
    name="replay",
    title="Replay",
    about=(
        "A row is a 64 × 64 × 3 uint8 image (or 24 numbers), an action of 6, a reward and three "
        "flags, prepared in each contestant's own form. A time of `add` is for one step of one "
        "environment, into a store that was filled once: it overwrites the oldest rows, whose "
        "memory is there. The copy floor is the same bytes copied from one contiguous array into "
        "fresh tensors, its memory that of the arrays. Memory is the growth of the process."
    ),
    cases=cases,
    contestants=(
        Contestant(name="worldblocks", adapter="replay:ours", ours=True),
        Contestant(name="copy floor", adapter="replay:floor"),
        *(
            Contestant(
                name=name, adapter="peers.torchrl:replay", peer="torchrl", arguments={"kind": kind}
            )
            for kind, name in TORCHRL.items()
        ),
        Contestant(name="sheeprl", adapter="peers.sheeprl:replay", peer="sheeprl"),
        Contestant(name="cpprb", adapter="peers.cpprb:replay", peer="cpprb"),
        Contestant(name="flashbax", adapter="peers.flashbax:replay", peer="flashbax"),
        Contestant(
            name="stable-baselines3",
            adapter="peers.stable_baselines3:replay",
            peer="stable-baselines3",
        ),
        Contestant(name="r2dreamer", adapter="peers.r2dreamer:replay", peer="r2dreamer"),
        Contestant(name="official JAX", adapter="peers.official:replay", peer="jax"),
    ),
    summary=summary,
)

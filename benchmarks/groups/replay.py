"""Sequence replay."""

from benchmarks.groups.group import Group, checkout, ours, peer
from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

TORCH = "benchmarks.adapters.replay_torch"
ARRAYS = "benchmarks.adapters.replay_arrays"
TORCHRL = {"tensor": "torchrl (tensors)", "memmap": "torchrl (memory-mapped)"}


def cases(work: Work) -> dict[str, str]:
    """Times of adding and sampling, then memory."""
    windows, rows = work.sample
    return {
        "add": f"add, {work.streams} environments at a time, images, into a full store",
        "add_proprio": f"add, {work.streams} environments at a time, vectors, into a full store",
        "sample": f"sample {windows} × {rows} as tensors",
        "memory_image": f"memory of {work.image_steps:,} image steps",
        "memory_proprio": f"memory of {work.proprio_steps:,} proprio steps",
    }


def jobs(options: Options) -> list[Job]:
    """The copy that nobody can do without, then the replays."""
    return [
        ours(options, f"{TORCH}:ours"),
        Job(name="copy floor", adapter=f"{TORCH}:floor", work=options.work()),
        *(
            job
            for kind, name in TORCHRL.items()
            for job in peer(options, "torchrl", f"{TORCH}:torchrl", name, arguments={"kind": kind})
        ),
        *peer(options, "sheeprl", f"{ARRAYS}:sheeprl"),
        *peer(options, "cpprb", f"{ARRAYS}:cpprb"),
        *peer(options, "flashbax", f"{ARRAYS}:flashbax"),
        *peer(options, "stable-baselines3", f"{ARRAYS}:stable_baselines3"),
        *checkout(options, "r2dreamer", f"{TORCH}:r2dreamer"),
        *checkout(options, "jax", f"{ARRAYS}:official"),
    ]


REPLAY = Group(
    name="replay",
    title="Replay",
    about=(
        "A row is a 64 × 64 × 3 uint8 image (or 24 numbers), an action of 6, a reward and three "
        "flags, prepared in each contestant's own form; a time of `add` is for one step of one "
        "environment, into a store that was filled once: it overwrites the oldest rows, whose "
        "memory is there. The copy floor is the same bytes copied from one contiguous array into "
        "fresh tensors, its memory that of the arrays. Memory is what the process grew by."
    ),
    cases=cases,
    jobs=jobs,
    units={
        "add": "µs",
        "add_proprio": "µs",
        "sample": "ms",
        "memory_image": "MiB",
        "memory_proprio": "MiB",
    },
)

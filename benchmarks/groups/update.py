"""The full gradient step of an agent."""

from dataclasses import replace

from benchmarks.groups.group import Group, checkout, ours, peer
from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

ADAPTERS = "benchmarks.adapters"
COLD = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # the first call has the compiling in it


def cases(work: Work) -> dict[str, str]:
    """One: a step."""
    return {"step": f"step, {work.words()}"}


def jobs(options: Options) -> list[Job]:
    """worldblocks with both encoders, and every agent there is."""
    strided = {"arguments": {"strided": True}}
    r2dreamer = ("r2dreamer", f"{ADAPTERS}.r2dreamer:update")
    named = checkout(options, *r2dreamer, "r2dreamer (compiled)", compile=True)
    compiled_r2dreamer = [replace(job, environment=COLD) for job in named]
    return [
        ours(options, f"{ADAPTERS}.ours:update"),
        ours(options, f"{ADAPTERS}.ours:update", "worldblocks (strided)", **strided),
        *peer(options, "torchrl", f"{ADAPTERS}.torchrl:update"),
        *peer(options, "sheeprl", f"{ADAPTERS}.sheeprl:update"),
        *checkout(options, *r2dreamer),
        *(compiled_r2dreamer if options.r2dreamer_compile else []),
        *checkout(options, "jax", f"{ADAPTERS}.official:update"),
    ]


UPDATE = Group(
    name="update",
    title="The full gradient step",
    about=(
        "World model, imagination, actor and critic: losses, backward pass, gradient clipping and "
        "optimiser, on 64 × 64 × 3 images and 6 discrete actions, random data, float32. sheeprl "
        "has the architecture of 2023, which does less arithmetic; torchrl has no DreamerV3 for "
        "images, so its public parts are joined the way a user would, with strided convolutions."
    ),
    cases=cases,
    jobs=jobs,
    counts_flops=True,
)

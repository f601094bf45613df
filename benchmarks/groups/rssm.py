"""The recurrent state-space model alone."""

from benchmarks.groups.group import Group, checkout, ours, peer
from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

ADAPTERS = "benchmarks.adapters"


def cases(work: Work) -> dict[str, str]:
    """Observe forward and with backward, imagine forward."""
    observe = f"{work.size}, {work.observe[0]} × {work.observe[1]}"
    return {
        "observe": f"observe, forward, {observe}",
        "observe_backward": f"observe, forward and backward, {observe}",
        "imagine": f"imagine, forward, {work.size}, {work.imagine} × {work.horizon}",
    }


def jobs(options: Options) -> list[Job]:
    """The peers of `update`."""
    return [
        ours(options, f"{ADAPTERS}.ours:rssm"),
        *peer(options, "torchrl", f"{ADAPTERS}.torchrl:rssm"),
        *peer(options, "sheeprl", f"{ADAPTERS}.sheeprl:rssm"),
        *checkout(options, "r2dreamer", f"{ADAPTERS}.r2dreamer:rssm"),
        *checkout(options, "jax", f"{ADAPTERS}.official:rssm"),
    ]


RSSM = Group(
    name="rssm",
    title="The recurrent state-space model",
    about=(
        "`observe` gives posterior and prior of a sequence of embeddings, `imagine` follows the "
        "policy; float32."
    ),
    cases=cases,
    jobs=jobs,
    counts_flops=True,
)

"""Subject: the full gradient step of an agent."""

from collections.abc import Mapping
from typing import Any

from benchmarks.subject import Case, Contestant, Subject
from benchmarks.tables import speed
from benchmarks.work import Work
from benchmarks.worker import Timed

COLD = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # so that the first call includes compiling
PEERS = {"r2dreamer": "r2dreamer (eager)", "official JAX": "the official JAX code"}


def ours(work: Work, strided: bool = False) -> Timed:
    """The recipe's update on one batch.

    Args:
        strided: use the strided encoder and decoder.
    """
    from benchmarks.ours import assemble, facts, plain_flops, trained
    from benchmarks.torch_tools import prepare

    prepare(work.threads)
    one = assemble(work, strided=strided)
    one.step()
    return Timed(
        functions={"step": one.step},
        note="strided encoder and decoder" if strided else "reference architecture",
        parameters=trained(one.agent),
        flops=plain_flops({"step": one.step}),
        **facts(),
    )


def cases(work: Work) -> dict[str, Case]:
    """One case, a step."""
    return {"step": Case(f"step, {work.words()}")}


def summary(found: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Compared with the agents of the same architecture."""
    ratios = found["step"]["ratios"].get("worldblocks", {})
    speeds = [
        f"{speed(ratios[peer])} the speed of {name}"
        for peer, name in PEERS.items()
        if peer in ratios
    ]
    if not speeds:
        return ""
    sizes, threads = found["step"]["title"].removeprefix("step, "), origin["threads"]
    return (
        f"An update on a CPU ({sizes}, {threads} thread{'s' if threads > 1 else ''}, same "
        f"architecture) runs at {' and '.join(speeds)}."
    )


SUBJECT = Subject(
    name="update",
    title="The full gradient step",
    about=(
        "World model, imagination, actor and critic: losses, backward pass, gradient clipping and "
        "optimiser, on 64 × 64 × 3 images and 6 discrete actions, random data, float32. sheeprl "
        "has the architecture of 2023, which does less arithmetic. torchrl has no DreamerV3 for "
        "images, so its public parts are joined the way a user would, with strided convolutions."
    ),
    cases=cases,
    contestants=(
        Contestant(name="worldblocks", adapter="update:ours", ours=True),
        Contestant(
            name="worldblocks (strided)",
            adapter="update:ours",
            ours=True,
            arguments={"strided": True},
        ),
        Contestant(name="torchrl", adapter="peers.torchrl:update", peer="torchrl"),
        Contestant(name="sheeprl", adapter="peers.sheeprl:update", peer="sheeprl"),
        Contestant(name="r2dreamer", adapter="peers.r2dreamer:update", peer="r2dreamer"),
        Contestant(
            name="r2dreamer (compiled)",
            adapter="peers.r2dreamer:update",
            peer="r2dreamer",
            arguments={"compile": True},
            environment=COLD,
        ),
        Contestant(name="official JAX", adapter="peers.official:update", peer="jax"),
    ),
    summary=summary,
    counts_flops=True,
)

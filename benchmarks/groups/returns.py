"""Return estimators."""

from benchmarks.groups.group import Group, checkout, ours, peer
from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

ADAPTER = "benchmarks.adapters.returns"
UNCHECKED = {"JAXTYPING_DISABLE": "1"}
TORCHRL = {
    "td_lambda": "torchrl (td_lambda, loop)",
    "vec_td_lambda": "torchrl (td_lambda, vectorised)",
    "gae": "torchrl (gae, loop)",
    "vec_gae": "torchrl (gae, vectorised)",
}


def cases(work: Work) -> dict[str, str]:
    """The shapes, and how far each contestant is from the recursion in float64."""
    titles = {}
    for time, batch in work.returns:
        titles[f"{time}x{batch}"] = f"λ-return, {time} rows × {batch}"
        titles[f"error {time}x{batch}"] = f"λ-return, {time} rows × {batch}, largest error"
    return titles


def jobs(options: Options) -> list[Job]:
    """Every implementation that takes discounts and a λ."""
    return [
        ours(options, f"{ADAPTER}:ours", environment=UNCHECKED),
        ours(options, f"{ADAPTER}:ours", "worldblocks (checked)"),
        *(
            job
            for kind, name in TORCHRL.items()
            for job in peer(
                options, "torchrl", f"{ADAPTER}:torchrl", name, arguments={"kind": kind}
            )
        ),
        *peer(options, "sheeprl", f"{ADAPTER}:sheeprl"),
        *peer(options, "rlax", f"{ADAPTER}:rlax"),
        *checkout(options, "r2dreamer", f"{ADAPTER}:r2dreamer"),
        *checkout(options, "jax", f"{ADAPTER}:official"),
    ]


RETURNS = Group(
    name="returns",
    title="Return estimators",
    about=(
        "One call on data in each contestant's own layout. worldblocks runs with "
        "`JAXTYPING_DISABLE=1`, and beside it as it comes, with its shapes checked. The largest "
        "error is against the recursion in float64."
    ),
    cases=cases,
    jobs=jobs,
    units={f"{time}x{batch}": "µs" for time, batch in Work().returns}
    | {f"error {time}x{batch}": "" for time, batch in Work().returns},
)

"""Subject: return estimators, on the same numbers in each library's own layout."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.subject import Case, Contestant, Subject
from benchmarks.work import Work
from benchmarks.worker import Timed

GAMMA, LAM = 0.997, 0.95
Numbers = dict[str, np.ndarray]
# A call, and a function that converts its result to `time batch`.
Made = tuple[Callable[[], Any], Callable[[Any], Any]]
TORCHRL = {
    "td_lambda": "td_lambda, loop",
    "vec_td_lambda": "td_lambda, vectorised",
    "gae": "gae, loop",
    "vec_gae": "gae, vectorised",
}


def numbers(time: int, batch: int) -> Numbers:
    """Rewards, values and ends, `time batch`; entry t is of the row that action t leads to."""
    generator = np.random.default_rng(0)
    size = (time, batch)
    data = {
        "reward": generator.standard_normal(size).astype(np.float32),
        "value": generator.standard_normal(size).astype(np.float32),
        "before": generator.standard_normal(size).astype(np.float32),
        "terminal": generator.random(size) < 0.02,
    }
    data["before"][1:] = data["value"][:-1]
    return {**data, "discount": (GAMMA * ~data["terminal"]).astype(np.float32)}


def exact(data: Numbers) -> np.ndarray:
    """The recursion in float64."""
    reward, value = data["reward"].astype(float), data["value"].astype(float)
    live, returns = GAMMA * ~data["terminal"], np.empty_like(reward)
    last = value[-1]
    for t in reversed(range(len(reward))):
        last = reward[t] + live[t] * ((1 - LAM) * value[t] + LAM * last)
        returns[t] = last
    return returns


def measured(work: Work, make: Callable[[Numbers], Made], **known: Any) -> Timed:
    """Time and largest error of each shape."""
    timed = Timed(**known)
    for shape in work.returns:
        data = numbers(*shape)
        call, back = make(data)
        case = "x".join(map(str, shape))
        timed.functions[case] = call
        error = np.abs(np.asarray(back(call())) - exact(data)).max()
        timed.values[f"error {case}"] = float(error)
    return timed


def tensors(data: Numbers, *, batch_first: bool, last_axis: bool = False) -> dict[str, Any]:
    """As contiguous PyTorch tensors."""
    import torch

    found = {}
    for key, value in data.items():
        one = torch.as_tensor(value.T.copy() if batch_first else value)
        found[key] = one[..., None] if last_axis else one
    return found


def padded(data: Numbers) -> list[np.ndarray]:
    """Arguments for r2dreamer and the official code: last, terminal, reward, values.

    They are `batch time` with an extra first row, whose values do not matter.
    """
    first = {key: np.pad(value.T, ((0, 0), (1, 0))) for key, value in data.items()}
    last = np.zeros_like(first["reward"])
    rows = first["terminal"].astype(np.float32), first["reward"], first["value"], first["value"]
    return [last, *rows]


def ours(work: Work) -> Timed:
    """worldblocks; the environment decides whether shapes are checked."""
    from benchmarks.torch_tools import prepare, versions
    from worldblocks.returns import lambda_return

    prepare(work.threads)

    def make(data: Numbers) -> Made:
        given = tensors(data, batch_first=True)
        arguments = given["reward"], given["discount"], given["value"], LAM
        return lambda: lambda_return(*arguments), lambda out: out.T

    mode = "eager" if os.environ.get("JAXTYPING_DISABLE") == "1" else "eager, shapes checked"
    return measured(work, make, mode=mode, versions=versions("worldblocks", "torch"))


def cases(work: Work) -> dict[str, Case]:
    """The shapes, and the error of each contestant relative to the float64 recursion."""
    found = {}
    for time, batch in work.returns:
        title = f"λ-return, {time} rows × {batch}"
        found[f"{time}x{batch}"] = Case(title, "µs")
        found[f"error {time}x{batch}"] = Case(f"{title}, largest error", "")
    return found


SUBJECT = Subject(
    name="returns",
    title="Return estimators",
    about=(
        "One call on data in each contestant's own layout. worldblocks runs with "
        "`JAXTYPING_DISABLE=1`, and once more as it comes, with its shapes checked. The largest "
        "error is against the recursion in float64."
    ),
    cases=cases,
    contestants=(
        Contestant(
            name="worldblocks",
            adapter="returns:ours",
            ours=True,
            environment={"JAXTYPING_DISABLE": "1"},
        ),
        Contestant(name="worldblocks (checked)", adapter="returns:ours", ours=True),
        *(
            Contestant(
                name=f"torchrl ({name})",
                adapter="peers.torchrl:returns",
                peer="torchrl",
                arguments={"kind": kind},
            )
            for kind, name in TORCHRL.items()
        ),
        Contestant(name="sheeprl", adapter="peers.sheeprl:returns", peer="sheeprl"),
        Contestant(name="rlax", adapter="peers.rlax:returns", peer="rlax"),
        Contestant(name="r2dreamer", adapter="peers.r2dreamer:returns", peer="r2dreamer"),
        Contestant(name="official JAX", adapter="peers.official:returns", peer="jax"),
    ),
)

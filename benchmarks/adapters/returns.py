"""λ-returns of every library, on the same numbers in each one's own layout."""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.timing import Timed
from benchmarks.work import Work

GAMMA, LAM = 0.997, 0.95
Numbers = dict[str, np.ndarray]


def numbers(time: int, batch: int) -> Numbers:
    """Rewards, values and ends, `time batch`; entry t belongs to the row that action t leads to."""
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


def measured(
    work: Work,
    make: Callable[[Numbers], tuple[Callable[[], Any], Callable[[Any], Any]]],
    **known: Any,
) -> Timed:
    """Each shape: what `make` gives is a call, and its result as `time batch`."""
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


def prepared(work: Work, *names: str) -> dict[str, Any]:
    """Threads of PyTorch; versions."""
    from benchmarks.adapters.torch_tools import prepare, versions

    prepare(work.threads)
    return {"versions": versions(*names, "torch")}


def ours(work: Work) -> Timed:
    """worldblocks; whether its shapes are checked is in the environment."""
    import os

    from worldblocks.returns import lambda_return

    def make(data: Numbers) -> Any:
        given = tensors(data, batch_first=True)
        arguments = given["reward"], given["discount"], given["value"], LAM
        return lambda: lambda_return(*arguments), lambda out: out.T

    mode = "eager" if os.environ.get("JAXTYPING_DISABLE") == "1" else "eager, shapes checked"
    return measured(work, make, mode=mode, **prepared(work, "worldblocks"))


def torchrl(work: Work, kind: str) -> Timed:
    """torchrl's TD(λ), or its advantages with the values added: the same returns."""
    from torchrl.objectives.value import functional

    names = {"td_lambda": "td_lambda_return_estimate", "gae": "generalized_advantage_estimate"}
    prefix = "vec_" if kind.startswith("vec_") else ""
    function = getattr(functional, prefix + names[kind.removeprefix("vec_")])
    gae = kind.endswith("gae")

    def make(data: Numbers) -> Any:
        given = tensors(data, batch_first=True, last_axis=True)
        terminated = given["terminal"]
        done = terminated.clone()
        done[:, -1] = True
        values = (given["before"],) if gae else ()
        arguments = (GAMMA, LAM, *values, given["value"], given["reward"])
        flags = {"done": done, "terminated": terminated}

        def back(out: Any) -> Any:
            return (out[0] + given["before"] if gae else out)[..., 0].T

        return lambda: function(*arguments, **flags), back

    return measured(work, make, **prepared(work, "torchrl"))


def sheeprl(work: Work) -> Timed:
    """sheeprl's, `time batch 1`."""
    from sheeprl.algos.dreamer_v3.utils import compute_lambda_values

    def make(data: Numbers) -> Any:
        given = tensors(data, batch_first=False, last_axis=True)
        arguments = given["reward"], given["value"], given["discount"]
        return lambda: compute_lambda_values(*arguments, lmbda=LAM), lambda out: out[..., 0]

    return measured(work, make, **prepared(work, "sheeprl"))


def rlax(work: Work) -> Timed:
    """rlax's, compiled, mapped over the batch."""
    from benchmarks.adapters.jax_tools import limit, version

    limit(work.threads)
    import jax
    import rlax as library

    def estimate(reward: Any, discount: Any, value: Any) -> Any:
        return library.lambda_returns(reward, discount, value, LAM)

    compiled = jax.jit(jax.vmap(estimate, in_axes=1, out_axes=1))

    def make(data: Numbers) -> Any:
        given = [jax.numpy.asarray(data[key]) for key in ("reward", "discount", "value")]
        return lambda: jax.block_until_ready(compiled(*given)), lambda out: out

    versions = {"rlax": metadata.version("rlax"), **version()}
    return measured(work, make, mode="jit", versions=versions)


def padded(data: Numbers) -> list[np.ndarray]:
    """The arguments that r2dreamer and the official code share: last, terminal, reward, values.

    `batch time`, with a row in front, of which only the length counts.
    """
    first = {key: np.pad(value.T, ((0, 0), (1, 0))) for key, value in data.items()}
    last = np.zeros_like(first["reward"])
    rows = first["terminal"].astype(np.float32), first["reward"], first["value"], first["value"]
    return [last, *rows]


def r2dreamer(work: Work, repo: str) -> Timed:
    """r2dreamer's."""
    import sys

    sys.path.insert(0, repo)
    import torch
    from dreamer import Dreamer

    def make(data: Numbers) -> Any:
        given = [torch.as_tensor(one)[..., None] for one in padded(data)]
        return lambda: Dreamer._lambda_return(None, *given, GAMMA, LAM), lambda out: out[..., 0].T

    return measured(work, make, **prepared(work))


def official(work: Work, repo: str) -> Timed:
    """The authors' own, compiled."""
    import sys

    from benchmarks.adapters.jax_tools import limit, version

    limit(work.threads)
    sys.path.insert(0, repo)
    import jax
    from dreamerv3.agent import lambda_return

    compiled = jax.jit(lambda *given: lambda_return(*given, GAMMA, LAM))

    def make(data: Numbers) -> Any:
        given = [jax.numpy.asarray(one) for one in padded(data)]
        return lambda: jax.block_until_ready(compiled(*given)), lambda out: out.T

    return measured(work, make, mode="jit", versions=version(repo))

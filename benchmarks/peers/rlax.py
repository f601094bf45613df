"""rlax: its λ-return, compiled, mapped over the batch."""

from importlib import metadata
from typing import Any

from benchmarks.peers.jax_tools import limit, version
from benchmarks.returns import LAM, Made, Numbers, measured
from benchmarks.work import Work
from benchmarks.worker import Timed


def returns(work: Work) -> Timed:
    """`time batch`."""
    limit(work.threads)
    import jax
    import rlax

    def estimate(reward: Any, discount: Any, value: Any) -> Any:
        return rlax.lambda_returns(reward, discount, value, LAM)

    compiled = jax.jit(jax.vmap(estimate, in_axes=1, out_axes=1))

    def make(data: Numbers) -> Made:
        given = [jax.numpy.asarray(data[key]) for key in ("reward", "discount", "value")]
        return lambda: jax.block_until_ready(compiled(*given)), lambda out: out

    versions = {"rlax": metadata.version("rlax"), **version()}
    return measured(work, make, mode="jit", versions=versions)

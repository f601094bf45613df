"""Threads, versions and FLOPs of JAX libraries."""

import math
import os
from importlib import metadata
from typing import Any


def limit(threads: int) -> None:
    """Call before the first import of JAX: XLA makes a thread for each core that it may use."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[-threads:])
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def version() -> dict[str, str]:
    """Of JAX."""
    return {"jax": metadata.version("jax")}


def flops(closed: Any) -> float:
    """Matrix multiplications and convolutions of a traced function that its result needs.

    The same operations that PyTorch's counter counts; a loop by its number of rounds. XLA's own
    cost analysis counts the body of a loop once, and everything elementwise.
    """
    from jax.interpreters import partial_eval

    jaxpr = closed.jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return of_body(needed)


def of_body(jaxpr: Any) -> float:
    """FLOPs of a jaxpr, closed or not."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return sum(of_equation(equation) for equation in jaxpr.eqns)


def of_equation(equation: Any) -> float:
    """FLOPs of one equation and of what is inside it."""
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return of_dot(equation)
    if name == "conv_general_dilated":
        return of_convolution(equation)
    if name == "scan":
        return parameters["length"] * of_body(parameters["jaxpr"])
    if name == "cond":
        return max(of_body(branch) for branch in parameters["branches"])
    inner = [one for one in parameters.values() if hasattr(one, "eqns") or hasattr(one, "jaxpr")]
    return sum(of_body(one) for one in inner)


def of_dot(equation: Any) -> float:
    """Two for each product of a matrix multiplication."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    products = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * products


def of_convolution(equation: Any) -> float:
    """Two for each product; zeros between spread pixels are not multiplied."""
    kernel = equation.invars[1].aval.shape
    features = equation.params["dimension_numbers"].rhs_spec[0]
    products = math.prod(kernel) / kernel[features]
    spread = math.prod(equation.params["lhs_dilation"])
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * products / spread

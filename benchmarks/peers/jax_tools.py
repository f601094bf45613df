"""Threads, versions and FLOPs of JAX libraries."""

import math
import os
from importlib import metadata
from typing import Any


def limit(threads: int) -> None:
    """Limit XLA, which makes a thread for each available core. Call before importing JAX."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[-threads:])
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def version() -> dict[str, str]:
    """The version of JAX."""
    return {"jax": metadata.version("jax")}


def flops(closed: Any) -> float:
    """FLOPs of the matrix multiplications and convolutions that the result of a function needs.

    These are the operations that PyTorch's counter counts; a loop counts with its iterations. XLA's
    cost analysis counts the body of a loop once, and elementwise operations too.
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
    """FLOPs of one equation, including nested ones."""
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
    """Two FLOPs per product of a matrix multiplication."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    products = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * products


def of_convolution(equation: Any) -> float:
    """Two FLOPs per product; zeros between dilated pixels do not count."""
    kernel = equation.invars[1].aval.shape
    features = equation.params["dimension_numbers"].rhs_spec[0]
    products = math.prod(kernel) / kernel[features]
    spread = math.prod(equation.params["lhs_dilation"])
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * products / spread

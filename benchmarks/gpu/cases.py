"""The checks, in order: those of numbers first, the largest model last."""

from typing import NamedTuple


class Case(NamedTuple):
    """A generator of findings, `function(device, quick)`, and the seconds it may take."""

    function: str  # module:function
    limit: float


# Four minutes together.
CASES = {
    "captured": Case("benchmarks.gpu.agreement:captured", 45),
    "parity": Case("benchmarks.gpu.agreement:parity", 40),
    "columns": Case("benchmarks.gpu.columns:columns", 20),
    "drift": Case("benchmarks.gpu.agreement:drift", 35),
    "size1m": Case("benchmarks.gpu.timings:size1m", 28),
    "size12m": Case("benchmarks.gpu.timings:size12m", 30),
    "size200m": Case("benchmarks.gpu.timings:size200m", 40),
}

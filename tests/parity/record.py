"""Results of a comparison: errors of arrays, and the rows of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from parity.arrays import Arrays
from worldblocks.interop import from_jax, jax_names

VALUES, GRADIENTS = 1e-5, 1e-4


class Error(NamedTuple):
    """The error of one array, `max |ours - reference| / max |reference|`, and its tolerance."""

    array: str
    elements: int
    error: float
    tolerance: float
    cause: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within tolerance; NaN is not."""
        return self.error <= self.tolerance


class Excepted(NamedTuple):
    """Recorded elements that are deliberately not reproduced, and why."""

    elements: int
    cause: str


@dataclass(frozen=True)
class Row:
    """A row of the table: one comparison of a file or of a variant in it."""

    group: str
    case: str
    what: str
    values: tuple[Error, ...] = ()
    gradients: tuple[Error, ...] = ()
    excepted: Excepted | None = None
    problem: str = ""

    @property
    def faults(self) -> list[Error]:
        """The arrays beyond their tolerance, the worst first."""
        bad = [error for error in (*self.values, *self.gradients) if not error.ok]
        return sorted(bad, key=lambda e: -e.error / e.tolerance if e.error == e.error else -np.inf)

    @property
    def ok(self) -> bool:
        """Whether something was compared and everything is within tolerance."""
        compared = self.values or self.gradients or self.excepted
        return bool(compared) and not self.faults and not self.problem


class Check(NamedTuple):
    """A comparison: a function that fills a `Record`."""

    group: str
    case: str
    what: str
    run: Callable[["Record"], None]

    def row(self) -> Row:
        """Run the comparison. An exception becomes the problem of the row."""
        record, row = Record(), Row(self.group, self.case, self.what)
        try:
            self.run(record)
        except Exception as error:
            row = replace(row, problem=f"{type(error).__name__}: {error}")
        values, gradients = tuple(record.values), tuple(record.gradients)
        return replace(row, values=values, gradients=gradients, excepted=record.excepted)


class Record:
    """Collects the errors of one comparison."""

    def __init__(self) -> None:
        self.values: list[Error] = []
        self.gradients: list[Error] = []
        self.excepted: Excepted | None = None

    def value(self, array: str, ours: Any, reference: Any, tolerance: float = VALUES) -> None:
        """Compare an array of values."""
        self.values.append(compare(array, ours, reference, tolerance))

    def gradient(self, array: str, ours: Any, reference: Any, tolerance: float = GRADIENTS) -> None:
        """Compare an array of gradients; None means zeros."""
        ours = np.zeros(np.shape(reference)) if ours is None else ours
        self.gradients.append(compare(array, ours, reference, tolerance))

    def block(
        self,
        path: str,
        block: nn.Module,
        arrays: Mapping[str, np.ndarray],
        scope: str,
        ours: Callable[[nn.Parameter], Any] | None = None,
        tolerance: float | None = None,
    ) -> None:
        """Compare the gradient of every parameter of a block, or `ours(parameter)`."""
        names = jax_names(block)
        for name, reference in from_jax(block, arrays, scope=scope).items():
            parameter = block.get_parameter(name)
            array = f"{path}.{scope}/{names[name]}"
            if ours is None:
                self.gradient(array, parameter.grad, reference, tolerance or GRADIENTS)
            else:
                self.value(array, ours(parameter), reference, tolerance or VALUES)

    def values_of(self, arrays: Arrays, path: str, **ours: Any) -> None:
        """Compare several values with the arrays of the same name below a path."""
        for name, value in ours.items():
            self.value(f"{path}.{name}" if path else name, value, arrays[name])


def compare(array: str, ours: Any, reference: Any, tolerance: float) -> Error:
    """The error of an array; infinite if shapes differ or a value is not finite."""
    ours, reference = _float64(ours), _float64(reference)
    if ours.shape != reference.shape:
        cause = f"our shape is {ours.shape}, the reference's {reference.shape}"
        return Error(array, reference.size, float("inf"), tolerance, cause)
    if not reference.size:
        return Error(array, 0, 0.0, tolerance)
    largest = np.abs(reference).max()
    error = np.abs(ours - reference).max() / (largest if largest > 0 else 1.0)
    finite = bool(np.isfinite(error))
    return Error(array, reference.size, float(error) if finite else float("inf"), tolerance)


def _float64(x: Any) -> np.ndarray:
    x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
    return np.asarray(x, np.float64)

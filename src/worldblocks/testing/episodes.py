"""Hypothesis strategies for trajectories: where episodes begin and end."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from worldblocks._install import install


class Trajectory(NamedTuple):
    """Where episodes begin and end in a few rows of a few elements.

    Each row of an element is one letter: `.` within an episode, `T` a terminal, `L` a time limit,
    `A` the last row of an episode that was abandoned without either. `is_first` is set after `T`,
    `L` or `A`, and on the first row of elements with `begins`.

    >>> trajectory = Trajectory(begins=(True, False), rows=("..T.", "L..."), seed=0)
    >>> trajectory.is_first.int().tolist()
    [[1, 0, 0, 1], [0, 1, 0, 0]]
    >>> trajectory
    2 elements of 4 rows, is_first X..X .X.., is_last ..X. X..., is_terminal ..X. ...., seed 0
    """

    begins: tuple[bool, ...]
    rows: tuple[str, ...]
    seed: int

    @property
    def batch(self) -> int:
        """Number of elements."""
        return len(self.rows)

    @property
    def time(self) -> int:
        """Number of rows of each element."""
        return len(self.rows[0])

    @property
    def is_first(self) -> Bool[Tensor, "batch time"]:
        """First rows of an episode."""
        return torch.tensor(
            [
                [begin, *(letter != "." for letter in row[:-1])]
                for begin, row in zip(self.begins, self.rows, strict=True)
            ]
        )

    @property
    def is_last(self) -> Bool[Tensor, "batch time"]:
        """Last rows of an episode, by a terminal or a time limit."""
        return torch.tensor([[letter in "TL" for letter in row] for row in self.rows])

    @property
    def is_terminal(self) -> Bool[Tensor, "batch time"]:
        """Terminal rows."""
        return torch.tensor([[letter == "T" for letter in row] for row in self.rows])

    def normal(self, *shape: int, key: int = 0) -> Float32[Tensor, "batch time ..."]:
        """Normal numbers for every row; each `key` gives others."""
        generator = torch.Generator().manual_seed(97 * self.seed + key)
        return torch.randn(self.batch, self.time, *shape, generator=generator)

    def __repr__(self) -> str:
        shown = [f"{counted(self.batch, 'element')} of {counted(self.time, 'row')}"]
        for name in ("is_first", "is_last", "is_terminal"):
            flags = getattr(self, name).tolist()
            if any(map(any, flags)):
                marks = " ".join("".join(".X"[flag] for flag in row) for row in flags)
                shown.append(f"{name} {marks}")
        return ", ".join([*shown, f"seed {self.seed}"])


def counted(number: int, what: str) -> str:
    """A number with its noun in the singular or plural."""
    return f"{number} {what}{'s' * (number != 1)}"


def trajectories(
    *, batch: tuple[int, int] = (1, 3), time: tuple[int, int] = (1, 6), ends: str = ".ALT"
) -> Any:
    """Trajectories with adversarial ends: in the first or last row, in all rows, in all elements.

    Examples shrink to fewer elements, rows and ends, and to a smaller seed.

    Args:
        batch: minimum and maximum number of elements.
        time: minimum and maximum number of rows.
        ends: the letters of `Trajectory` to draw from.
    """
    st = hypothesis_strategies("trajectories")

    def of(size: tuple[int, int]) -> Any:
        elements, count = size
        letter = st.sampled_from(ends)
        row = st.one_of(
            st.tuples(*[letter] * count).map("".join),  # st.text would shrink to T instead of .
            letter.map(lambda end: end * count),
            letter.map(lambda end: end + "." * (count - 2) + end * (count > 1)),
        )
        begin = st.booleans()
        alike = st.tuples(begin, row).map(lambda one: ((one[0],) * elements, (one[1],) * elements))
        free = st.tuples(st.tuples(*[begin] * elements), st.tuples(*[row] * elements))
        pair = st.one_of(free, alike)
        return st.builds(lambda one, seed: Trajectory(one[0], one[1], seed), pair, seeds)

    seeds = st.integers(0, 9)
    return st.tuples(st.integers(*batch), st.integers(*time)).flatmap(of)


def hypothesis_strategies(needed_by: str) -> Any:
    """Import `hypothesis.strategies`, which comes with the extra `testing`."""
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError(
            f"wb.testing.{needed_by} needs the extra 'testing': {install('testing')}"
        ) from error
    return strategies

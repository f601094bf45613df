"""Trajectories: where episodes begin and end, adversarial first and small when it fails."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32
from torch import Tensor


class Trajectory(NamedTuple):
    """Where episodes begin and end in a few rows of a few elements, and numbers for them.

    A row of an element is one letter: `.` within an episode, `T` its end, `L` a time limit, `A` a
    row after which the episode was abandoned without either. The row after an `T`, `L` or `A` is
    `is_first`, and the first row where `begins` says so.

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
        """How many elements."""
        return len(self.rows)

    @property
    def time(self) -> int:
        """How many rows each has."""
        return len(self.rows[0])

    @property
    def is_first(self) -> Bool[Tensor, "batch time"]:
        """Rows that open an episode."""
        return torch.tensor(
            [
                [begin, *(letter != "." for letter in row[:-1])]
                for begin, row in zip(self.begins, self.rows, strict=True)
            ]
        )

    @property
    def is_last(self) -> Bool[Tensor, "batch time"]:
        """Rows that close one, by its end or by a time limit."""
        return torch.tensor([[letter in "TL" for letter in row] for row in self.rows])

    @property
    def is_terminal(self) -> Bool[Tensor, "batch time"]:
        """Rows that nothing follows."""
        return torch.tensor([[letter == "T" for letter in row] for row in self.rows])

    def normal(self, *shape: int, key: int = 0) -> Float32[Tensor, "batch time ..."]:
        """Normal numbers for every row, others for each `key`."""
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
    """One row, two rows."""
    return f"{number} {what}{'s' * (number != 1)}"


def trajectories(
    *, batch: tuple[int, int] = (1, 3), time: tuple[int, int] = (1, 6), ends: str = ".ALT"
) -> Any:
    """Trajectories whose ends stand where they hurt: in the first row, the last, in a row, at once.

    A smaller example has fewer elements, fewer rows, fewer ends, and a smaller seed.

    Args:
        batch: fewest and most elements.
        time: fewest and most rows.
        ends: which letters of `Trajectory` may stand in a row.
    """
    st = hypothesis_strategies("trajectories")

    def of(size: tuple[int, int]) -> Any:
        elements, count = size
        letter = st.sampled_from(ends)
        row = st.one_of(
            st.tuples(*[letter] * count).map("".join),  # not text: that prefers T to .
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
    """The strategies of hypothesis, which a plain installation does not have."""
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError(
            f"wb.testing.{needed_by} needs the extra 'testing': "
            'pip install "worldblocks[testing]"'
        ) from error
    return strategies

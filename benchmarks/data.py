"""Random data, the same for every contestant."""

from typing import Any

import numpy as np

from benchmarks.work import ACTIONS, IMAGE, PROPRIO


def batch(windows: int, rows: int, seed: int = 0, side: int = IMAGE[0]) -> dict[str, Any]:
    """A batch for an update, `batch time ...`: episodes start in row 0 and end at random."""
    generator = np.random.default_rng(seed)
    index = generator.integers(0, ACTIONS, (windows, rows))
    is_first = np.zeros((windows, rows), bool)
    is_first[:, 0] = True
    terminal = generator.random((windows, rows)) < 0.01
    return {
        "image": generator.integers(0, 256, (windows, rows, side, side, 3), dtype=np.uint8),
        "action": np.eye(ACTIONS, dtype=np.float32)[index],
        "action_index": index.astype(np.int32),
        "reward": generator.standard_normal((windows, rows)).astype(np.float32),
        "is_first": is_first,
        "is_last": terminal.copy(),
        "is_terminal": terminal,
    }


EPISODE = 200  # rows
STAGGER = 25  # rows by which each stream is ahead of the previous one


def steps(streams: int, *, image: bool, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Rows of all streams, `env ...`, for one episode; they are added repeatedly."""
    generator = np.random.default_rng(seed)
    rows = []
    for time in range(EPISODE):
        phase = (time + STAGGER * np.arange(streams)) % EPISODE
        last = phase == EPISODE - 1
        rows.append(
            {
                "obs": observation(generator, streams, image),
                "action": np.eye(ACTIONS, dtype=np.float32)[
                    generator.integers(0, ACTIONS, streams)
                ],
                "reward": generator.standard_normal(streams).astype(np.float32),
                "is_first": phase == 0,
                "is_last": last,
                "is_terminal": last.copy(),
            }
        )
    return rows


def observation(generator: np.random.Generator, streams: int, image: bool) -> np.ndarray:
    """An image or a vector for each stream."""
    if image:
        return generator.integers(0, 256, (streams, *IMAGE), dtype=np.uint8)
    return generator.standard_normal((streams, PROPRIO)).astype(np.float32)


def stretch(rows: list[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """`count` consecutive rows as one dict of arrays, `time env ...`."""
    picked = [rows[time % len(rows)] for time in range(count)]
    return {key: np.stack([row[key] for row in picked]) for key in picked[0]}


def episodes(time: int, streams: int) -> np.ndarray:
    """A unique number for the current episode of each stream."""
    return (time + STAGGER * np.arange(streams)) // EPISODE * streams + np.arange(streams)


def bytes_of_step(*, image: bool) -> int:
    """The bytes in one row of one stream."""
    row = steps(1, image=image)[0]
    return sum(value.nbytes for value in row.values())

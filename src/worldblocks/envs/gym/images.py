"""Boxes that are images or grids, of any layout, as `height width channel` arrays."""

import warnings
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from worldblocks.envs.errors import OutsideSpace
from worldblocks.envs.gym.values import Leaf
from worldblocks.spaces import Grid, Image, Spaces

FEW = 64
"""Bytes whose upper bound is below this are probably classes."""
DARK = 16
"""Bytes that stay below this in the rows that are looked at are probably classes."""
LOOKED_AT = 32
"""Rows of a run whose bounds and keys are looked at; later, first rows alone."""

_Observe = Callable[[Any, bool], np.ndarray]


def pixels(
    space: Any, leaf: Leaf, key: str, size: int | None, classes: int, float_images: bool
) -> tuple[Image | Grid, _Observe] | None:
    """The space and the reader of a `Box` that is an image or a grid; None of any other."""
    if len(space.shape) not in (2, 3):
        return None
    first = len(space.shape) == 3 and channels_first(space.shape)
    shape = (*space.shape, 1) if len(space.shape) == 2 else space.shape
    height, width, channels = (*shape[1:], shape[0]) if first else shape
    low, high = float(space.low.min()), float(space.high.max())
    whole = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_
    if whole and classes:
        grid = Grid(height, width, channels, int(classes))
        start = np.asarray(int(low) if abs(low) < 1e9 else 0)  # no bound is a huge number
        return grid, _grid_reader(leaf, grid, start, first)
    image = Image(size or height, size or width, channels)
    if space.dtype == np.uint8:
        if high < FEW:
            warnings.warn(
                f"the observation {key!r} is {space}, bytes up to {high:.0f}: as an image it is "
                f"nearly black; {_as_grid(key, high)}, else scale them to 0 … 255",
                stacklevel=6,
            )
        return image, _byte_reader(leaf, key, size, first, high >= FEW)
    if not looks_like_an_image((height, width, channels)):
        return None
    bounded = np.isfinite([low, high]).all() and low < high
    if float_images and bounded:
        return image, _float_reader(leaf, low, high, size, first)
    seems = f"the observation {key!r} is {space}, observed as a vector of {prod(shape)} numbers"
    if whole and -FEW < low <= high < FEW:
        warnings.warn(f"{seems}; {_as_grid(key, high - low)}", stacklevel=6)
    elif (low, high) in ((0, 1), (0, 255)) or (len(space.shape) == 3 and not whole):
        given = "" if bounded else " after its bounds, black and white, are declared in its space"
        warnings.warn(
            f"{seems}, and looks like an image; float_images=True (--env-args "
            f"'{{\"float_images\": true}}') makes it one, of bytes in 0 … 255{given}",
            stacklevel=6,
        )
    return None


def _as_grid(key: str, high: float) -> str:
    return (
        f"if these are classes of a board or a map, ask for a wb.spaces.Grid with grids="
        f'{{{key!r}: {high + 1:.0f}}} (--env-args \'{{"grids": {{"{key}": {high + 1:.0f}}}}}\')'
    )


def classes_of(grids: int | Mapping[str, int], key: str) -> int:
    """The number of classes of the grid `key`, 0 if it is none."""
    count = grids.get(key, 0) if isinstance(grids, Mapping) else grids
    asked = key in grids if isinstance(grids, Mapping) else type(grids) is not int or grids != 0
    if asked and (isinstance(count, bool) or count not in range(2, 257)):
        raise ValueError(
            f"wb.envs.gym got grids={grids!r}; it takes a number of classes from 2 to 256, or one "
            f"for each key, such as {{'board': 2}}"
        )
    return count


def check_asked(
    grids: int | Mapping[str, int], float_images: bool, spaces: Spaces, floats: bool
) -> None:
    """Raise unless the grids and images of floats that were asked for are among `spaces`.

    `floats` says that an image was made of floats.
    """
    found = {key for key, space in spaces.items() if isinstance(space, Grid)}
    unknown = sorted(set(grids) - found) if isinstance(grids, Mapping) else []
    if unknown or (grids and not found):
        raise ValueError(
            f"wb.envs.gym was asked for the grids {unknown or grids}; a grid is a Box of whole "
            f"numbers with two or three axes, and the observations are {dict(spaces)}"
        )
    if float_images and not floats:
        raise ValueError(
            f"wb.envs.gym was asked for float_images; such an image is a Box of floats with "
            f"bounds, of two or three axes, sides from 8 and one to four channels, and the "
            f"observations are {dict(spaces)}"
        )


def _byte_reader(leaf: Leaf, key: str, size: int | None, first: bool, watched: bool) -> _Observe:
    """Read bytes; `watched` ones that stay nearly black are a warning."""
    looked, highest = 0, 0

    def read(value: Any, look: bool) -> np.ndarray:
        nonlocal looked, highest
        image = np.array(leaf.image(value, look), np.uint8)  # environments reuse their buffers
        if watched and look and looked < LOOKED_AT:
            looked, highest = looked + 1, max(highest, int(image.max()))
            if looked == LOOKED_AT and 0 < highest < DARK:
                warnings.warn(
                    f"the observation {key!r} had no number above {highest} in {looked} rows: as "
                    f"an image it is nearly black; {_as_grid(key, highest)} or more, as many as "
                    f"there are",
                    OutsideSpace,
                    stacklevel=5,
                )
        return _arranged(image, size, first)

    return read


def _float_reader(leaf: Leaf, low: float, high: float, size: int | None, first: bool) -> _Observe:
    return lambda value, look: _arranged(leaf.brightness(value, low, high), size, first)


def _grid_reader(leaf: Leaf, grid: Grid, start: np.ndarray, first: bool) -> _Observe:
    def read(value: Any, look: bool) -> np.ndarray:
        found = leaf.classes(
            value, ..., start, grid.classes, "give `grids` the number of all classes"
        )
        return _arranged(found.astype(np.uint8), None, first)

    return read


def _arranged(image: np.ndarray, size: int | None, first: bool) -> np.ndarray:
    """`height width channel`, resized."""
    if image.ndim == 2:
        image = image[:, :, None]
    image = np.ascontiguousarray(image.transpose(1, 2, 0)) if first else image
    return image if size is None else resized(image, size)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a `height width channel` uint8 image to `size size channel`.

    Uses Pillow's bilinear filter, which averages when it shrinks. An image that is smaller on both
    sides is enlarged by nearest pixels, so that the squares of a small grid world keep their edges.
    """
    from PIL import Image as Pillow

    height, width, channels = image.shape
    if height == width == size:
        return image
    smaller = height <= size and width <= size
    how = Pillow.Resampling.NEAREST if smaller else Pillow.Resampling.BILINEAR
    # Pillow would read four channels as colour and opacity, and supports no larger number.
    parts = [image] if channels == 3 else [image[..., c] for c in range(channels)]
    done = [np.asarray(Pillow.fromarray(part).resize((size, size), how)) for part in parts]
    return done[0] if channels == 3 else np.stack(done, -1)


def looks_like_an_image(shape: tuple[int, ...]) -> bool:
    """Whether numbers of this shape are probably an image: at least 8×8, one to four channels."""
    if len(shape) != 3:
        return False
    channels, sides = shape[2], shape[:2]
    if channels_first(shape):
        channels, sides = shape[0], shape[1:]
    return channels <= 4 and min(sides) >= 8


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether an image of three axes is `channel height width`.

    The two axes of equal length are height and width; without such a pair, the channel axis is the
    shorter one of the first and the last.
    """
    if shape[0] == shape[1] or shape[1] == shape[2]:
        return shape[0] != shape[1]
    return shape[0] < shape[2]

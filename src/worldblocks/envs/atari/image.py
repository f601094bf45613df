"""From the frames of the emulator to the image that the agent sees."""

import numpy as np
from jaxtyping import UInt8

from worldblocks.typing import typed

_GREY = np.array([0.299, 0.587, 1 - (0.299 + 0.587)])


@typed
def atari_image(
    frames: UInt8[np.ndarray, "time height width 3"], *, size: int, gray: bool
) -> UInt8[np.ndarray, "{size} {size} channel"]:
    """The reference's Atari preprocessing: maximum over frames, resize, then grey.

    The maximum is taken in RGB at full size. Pillow resizes it bilinearly. Grey is
    `0.299 R + 0.587 G + 0.114 B` of the *resized* image, truncated (not rounded) to uint8.

    Args:
        frames: raw RGB frames, usually the last two of an action.
        size: height and width of the result.
        gray: one channel instead of three.

    Source: `embodied/envs/atari.py` of danijar/dreamerv3, commit e3f0224.

    >>> atari_image(np.full((2, 210, 160, 3), 200, np.uint8), size=64, gray=True).shape
    (64, 64, 1)
    """
    return preprocess(frames, size, gray)


def preprocess(frames: np.ndarray, size: int, gray: bool) -> np.ndarray:
    """`atari_image` without type checks, for every step of an environment."""
    from PIL import Image

    largest = Image.fromarray(frames.max(0))
    image = np.array(largest.resize((size, size), Image.Resampling.BILINEAR))
    if gray:
        # As in the reference: another order of summation would truncate differently.
        image = (image * _GREY).sum(-1).astype(np.uint8)[:, :, None]
    return image

"""Images of any size and layout as square `height width channel` images."""

import numpy as np


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a `height width channel` uint8 image to `size size channel`.

    Uses Pillow's bilinear filter, which averages when it shrinks. An image that is smaller on both
    sides is enlarged by nearest pixels, so that the squares of a small grid world keep their edges.
    """
    from PIL import Image

    height, width, channels = image.shape
    if height == width == size:
        return image
    smaller = height <= size and width <= size
    how = Image.Resampling.NEAREST if smaller else Image.Resampling.BILINEAR
    # Pillow would read four channels as colour and opacity, and supports no larger number.
    parts = [image] if channels == 3 else [image[..., c] for c in range(channels)]
    done = [np.asarray(Image.fromarray(part).resize((size, size), how)) for part in parts]
    return done[0] if channels == 3 else np.stack(done, -1)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether an image of three axes is `channel height width`.

    The two axes of equal length are height and width; without such a pair, the channel axis is the
    shorter one of the first and the last.
    """
    if shape[0] == shape[1] or shape[1] == shape[2]:
        return shape[0] != shape[1]
    return shape[0] < shape[2]

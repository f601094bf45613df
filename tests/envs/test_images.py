import numpy as np
import PIL
import pytest
from jaxtyping import TypeCheckError

from worldblocks.envs import atari_image
from worldblocks.envs.gym.images import resized


def plain(*color):
    return np.broadcast_to(np.array(color, np.uint8), (2, 50, 40, 3))


@pytest.mark.parametrize(
    ("color", "gray"),
    # 0.587 * 255 = 149.685 is truncated to 149, not rounded to 150
    [((10, 20, 40), 19), ((255, 0, 0), 76), ((0, 255, 0), 149), ((0, 0, 255), 29)],
)
def test_gray_is_weighted_and_truncated(color, gray):
    image = atari_image(plain(*color), size=7, gray=True)
    assert image.shape == (7, 7, 1)
    assert (image == gray).all()


def test_the_maximum_is_taken_per_channel_before_the_resize():
    frames = np.zeros((2, 50, 40, 3), np.uint8)
    frames[0, :, :, 0], frames[1, :, :, 2] = 90, 60
    image = atari_image(frames, size=7, gray=False)
    assert (image == [90, 0, 60]).all()
    # stripes that alternate between the frames: their maximum is plain, their mean is not
    frames[:] = 0
    frames[0, 0::2], frames[1, 1::2] = 200, 200
    assert (atari_image(frames, size=7, gray=False) == 200).all()


def test_the_resize_averages_over_the_area_it_shrinks():
    # Rows 0 and 30 alternating, 50 -> 5: a triangle over 20 rows gives half of each.
    frames = np.zeros((1, 50, 40, 3), np.uint8)
    frames[:, ::2] = 30
    assert np.abs(atari_image(frames, size=5, gray=False)[1:-1].astype(int) - 15).max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "gray"), [("atari_96gray", 96, True), ("atari100k_64rgb", 64, False)]
)
def test_golden(golden, name, size, gray):
    arrays = np.load(golden / "m_atari_image.npz")
    image = atari_image(arrays["frames"], size=size, gray=gray)
    difference = np.abs(image.astype(int) - arrays[f"{name}.image"].astype(int))
    # Recorded with Pillow 13; another version may differ by one level.
    assert difference.max() <= (0 if PIL.__version__.startswith("13.") else 1)


def test_float_frames_are_refused():
    with pytest.raises(TypeCheckError, match="frames"):
        atari_image(plain(1, 2, 3).astype(np.float32), size=7, gray=False)  # pyright: ignore


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
def test_channels_are_resized_separately(channels):
    image = np.random.default_rng(0).integers(256, size=(30, 50, channels), dtype=np.uint8)
    small = resized(image, 8)
    assert (small.shape, small.dtype) == ((8, 8, channels), np.uint8)
    for c in range(channels):  # Pillow must not use a fourth channel as opacity
        alone = PIL.Image.fromarray(image[..., c]).resize((8, 8), PIL.Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(small[..., c], alone)


def test_a_small_image_keeps_its_edges_when_enlarged():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    np.testing.assert_array_equal(resized(image, 6), image.repeat(3, 0).repeat(3, 1))
    assert resized(image, 2) is image

import sys

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image

import worldblocks as wb
from worldblocks.run import (
    grid_colours,
    open_loop_grid,
    picture,
    side_by_side,
    subtitled,
    write_gif,
)
from worldblocks.run.video import BORDER, CONTEXT, GAP, HEADER, LABELS, OPEN


def read(path):
    with Image.open(path) as gif:
        frames = []
        for n in range(gif.n_frames):
            gif.seek(n)
            frames.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
        return frames, gif.info.get("loop")


def few_colours(*shape):
    """Random frames of 27 colours."""
    return np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8) * 120


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_a_gif_shows_the_frames_enlarged(tmp_path, kind):
    frames = few_colours(4, 30, 50, 3)
    path = write_gif(tmp_path / "new" / "a.gif", kind(frames), fps=20)
    shown, loop = read(path)
    assert loop == 0
    assert [duration for _, duration in shown] == [50] * 4
    for (pixels, _), frame in zip(shown, frames, strict=True):
        assert pixels.shape == (180, 300, 3)  # by 6: the larger side is at least 256
        assert np.array_equal(pixels[::6, ::6], frame)
        assert np.array_equal(pixels[5::6, 5::6], frame)


def test_grey_frames_and_large_ones(tmp_path):
    frames = few_colours(2, 256, 20, 1)
    shown, _ = read(write_gif(tmp_path / "a.gif", frames, 1000))
    assert [d for _, d in shown] == [20, 20]  # no viewer is faster than 50 frames per second
    assert np.array_equal(shown[1][0], np.repeat(frames[1], 3, -1))


def test_many_colours_are_close(tmp_path):
    ramp = torch.arange(64 * 64 * 3).reshape(1, 64, 64, 3) % 251
    shown, _ = read(write_gif(tmp_path / "a.gif", ramp.to(torch.uint8)))
    assert np.abs(shown[0][0][::4, ::4].astype(int) - ramp[0].numpy()).mean() < 16


@pytest.mark.parametrize("shape", [(2, 5, 7, 2), (0, 5, 7, 3)])
def test_what_is_no_gif(tmp_path, shape):
    message = "a GIF takes at least one frame, with 1 or 3 channels, got "
    with pytest.raises(ValueError, match=message):
        write_gif(tmp_path / "a.gif", np.zeros(shape, np.uint8))
    with pytest.raises(TypeCheckError, match="frames"):
        write_gif(tmp_path / "a.gif", np.zeros((2, 5, 7, 3), np.float32))
    assert list(tmp_path.iterdir()) == []


def tile(frame, row, column, height, width):
    top, left = HEADER + row * (height + GAP), LABELS + column * (width + GAP)
    return frame[top : top + height, left : left + width], frame[top - BORDER, left]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_by_position(channels):
    truth = torch.randint(0, 256, (2, 7, 11, 5, channels), dtype=torch.uint8)
    imagined = truth.float() / 255
    imagined[1, 4] = 1 - imagined[1, 4]
    frames = open_loop_grid(truth, imagined, context=3, scale=4)
    assert frames.shape[0] == 7
    for t in range(7):
        for column in range(2):
            real, border = tile(frames[t], 0, column, 44, 20)
            assert torch.equal(real[1::4, 1::4], truth[column, t].expand(11, 5, 3))
            assert tuple(border.tolist()) == (CONTEXT if t < 3 else OPEN)
            error, _ = tile(frames[t], 2, column, 44, 20)
            wrong = column == 1 and t == 4
            assert bool((error == torch.tensor([0, 0, 4])).all()) == (not wrong)
    guess, _ = tile(frames[4], 1, 1, 44, 20)
    assert torch.equal(guess[::4, ::4], 255 - truth[1, 4].expand(11, 5, 3))


def test_pictures_of_any_sizes_stand_side_by_side():
    one, grey = torch.full((2, 5, 4, 4), 7.0), torch.full((2, 3, 6, 2), 9.0)
    row = side_by_side([one, grey])
    assert row.shape == (2, 5, 10, 3)
    assert row[:, :, :4].unique().tolist() == [7]
    assert row[:, :3, 4:].unique().tolist() == [9]
    assert row[:, 3:, 4:].unique().tolist() == [0]


def test_a_grid_has_the_colours_of_its_classes():
    board = wb.spaces.Grid(1, 3, 2, 3)
    value = torch.tensor([[[0, 0], [1, 0], [1, 2]]], dtype=torch.uint8)
    black, one, both = picture(board, value)[0].float()
    assert black.tolist() == [0, 0, 0]
    assert one.max() == 255
    other = picture(board, torch.tensor([[[0, 2]] * 3], dtype=torch.uint8))[0, 0].float()
    assert (both - (one + other).clamp(max=255)).abs().max() <= 1
    assert (one - other).abs().max() > 50
    half = grid_colours(torch.full((1, 3, 2, 3), 1 / 3))
    assert half.shape == (1, 3, 3)
    assert picture(wb.spaces.Image(1, 3, 2), value) is value


def test_the_error_is_yellow_at_half_the_range():
    truth = torch.zeros(1, 1, 4, 6, 3, dtype=torch.uint8)
    imagined = torch.zeros(1, 1, 4, 6, 3)
    imagined[..., :3, :] = 0.5
    imagined[..., 3:, :] = 9.0  # clipped to 1
    error, _ = tile(open_loop_grid(truth, imagined, 0, scale=5)[0], 2, 0, 20, 30)
    assert error.reshape(-1, 3).unique(dim=0).tolist() == [[252, 255, 164]]


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_the_grid_has_a_size_to_look_at(batch):
    truth = torch.zeros(batch, 1, 64, 64, 3, dtype=torch.uint8)
    _, height, width, _ = open_loop_grid(truth, truth.float(), 1).shape
    assert 256 <= height <= 800
    assert 256 <= width <= 960


def test_a_context_that_is_not_there():
    truth = torch.zeros(1, 4, 2, 3, 3, dtype=torch.uint8)
    for context in (-1, 5):
        with pytest.raises(
            ValueError, match=f"context must be between 0 and the 4 rows, got {context}"
        ):
            open_loop_grid(truth, truth.float(), context)
    with pytest.raises(TypeCheckError, match="imagined"):
        open_loop_grid(truth, truth.float()[:, :3], 2)


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"write_gif needs the extra 'run' \(PIL\): pip inst"):
        write_gif(tmp_path / "a.gif", np.zeros((1, 2, 3, 3), np.uint8))


def test_lines_stand_above_the_frames():
    """Bands fit the lines, the margin fits the longest; the frames are unchanged."""
    frames = np.full((2, 5, 40, 3), 7, np.uint8)
    titled = subtitled(frames, [["a", "b"], ["a", "a line that is longer than 40 pixels"]])
    assert titled.shape[:2] == (2, 5 + 2 * 18 + 8)
    assert titled.shape[2] > 40
    assert (titled[:, -5:, :40] == 7).all()
    assert (titled[0, :18] != titled[1, :18]).sum() == 0
    assert (titled[0, 18:44] != titled[1, 18:44]).any()
    with pytest.raises(ValueError, match=r"2 frames were given 1 texts of \[1\] lines; give one"):
        subtitled(frames, [["a"]])

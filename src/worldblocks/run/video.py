"""GIF files, and videos of open-loop predictions of a world model."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from worldblocks.run.extras import extra
from worldblocks.spaces import Grid, Image
from worldblocks.typing import typed

PAPER = (18, 20, 26)
INK = (226, 229, 235)
FAINT = (96, 102, 114)
CONTEXT = (72, 207, 173)  # the model sees these frames
OPEN = (255, 159, 67)  # the model imagines these
# The colour map "inferno" at equal distances: black, purple, orange, pale yellow.
ERROR = [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)]

LABELS, HEADER, GAP, BORDER, FOOTER = 90, 34, 8, 3, 24
ROWS = ("truth", "imagined", "error")


@typed
def write_gif(
    path: Path | str,
    frames: UInt8[Tensor, "time height width channel"]
    | UInt8[np.ndarray, "time height width channel"],
    fps: float | int = 10,
) -> Path:
    """Write a looping GIF; small frames are enlarged by a whole factor to at least 256 pixels.

    Args:
        path: The file; its folder is created.
        frames: Grey (one channel) or RGB.
        fps: Frames per second; the format counts in hundredths of a second.
    """
    image = extra("PIL.Image", "write_gif")
    pixels = np.asarray(frames)
    if pixels.shape[-1] not in (1, 3) or not len(pixels):
        raise ValueError(
            f"a GIF takes at least one frame, with 1 or 3 channels, got {list(pixels.shape)}"
        )
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    scale = max(1, -(-256 // max(pixels.shape[1:3])))
    pictures = [_palette(image, frame, scale) for frame in pixels]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    duration = max(2, round(100 / fps)) * 10
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=duration, loop=0, disposal=1
    )
    return path


@typed
def subtitled(
    frames: UInt8[np.ndarray, "time height width 3"], words: Sequence[Sequence[str]]
) -> UInt8[np.ndarray, "time _ _ 3"]:
    """Add a band with lines of text above each frame, and a right margin for longer lines.

    Args:
        frames: RGB.
        words: the lines of each frame; all frames have the same number of lines.

    Raises:
        ValueError: the number of texts is not that of the frames, or the numbers of lines differ.
    """
    counts = {len(lines) for lines in words}
    if len(words) != len(frames) or len(counts) != 1:
        raise ValueError(
            f"{len(frames)} frames were given {len(words)} texts of {sorted(counts)} lines; give "
            f"one text per frame, all with the same number of lines"
        )
    image, drawing = extra("PIL.Image", "subtitled"), extra("PIL.ImageDraw", "subtitled")
    font = extra("PIL.ImageFont", "subtitled").load_default(13)
    longest = max((font.getlength(line) for lines in words for line in lines), default=0)
    margin = max(0, int(longest) + 12 - frames.shape[2])
    paper = np.broadcast_to(np.array(PAPER, np.uint8), (*frames.shape[:2], margin, 3))
    frames, bands = np.concatenate([frames, paper], 2), []
    for lines in words:
        band = image.new("RGB", (frames.shape[2], 18 * len(lines) + 8), PAPER)
        for place, line in enumerate(lines):
            ink = INK if place == 0 else OPEN
            drawing.Draw(band).text((6, 4 + 18 * place), line, fill=ink, font=font)
        bands.append(np.array(band))
    return np.concatenate([np.stack(bands), frames], 1)


@typed
def open_loop_grid(
    truth: UInt8[Tensor, "batch time height width channel"],
    imagined: Float[Tensor, "batch time height width channel"],
    context: int,
    *,
    scale: int | None = None,
) -> UInt8[Tensor, "time rows columns 3"]:
    """Frames of a video: truth, imagined and error in rows, one column per sequence.

    The first `context` frames, which the model observes, have a green border and the caption
    "context 3 / 5". The border of later frames is orange, and the caption counts the imagined
    steps. The error is the absolute difference averaged over the channels, drawn from black (0) to
    pale yellow (at least 0.5 of the range).

    Args:
        truth: The real frames.
        imagined: Predicted means for the same rows, in [0, 1]; values outside are clipped.
        context: Number of rows that the model observes.
        scale: Width of an input pixel in the video; None makes the video about 800 pixels wide.
    """
    batch, time, height, width, _ = truth.shape
    if not 0 <= context <= time:
        raise ValueError(f"context must be between 0 and the {time} rows, got {context}")
    scale = scale or max(1, min(round(704 / (batch * width)), round(176 / height), 8))
    rows = comparison(truth.float() / 255, imagined)
    rows = [row.repeat(scale, axis=2).repeat(scale, axis=3) for row in rows]
    canvas = _Canvas(batch, time, height * scale, width * scale)
    return torch.stack([canvas.frame(rows, t, context) for t in range(time)])


def side_by_side(
    pictures: Sequence[Shaped[Tensor, "*batch height width channel"]],
) -> Shaped[Tensor, "*batch height width 3"]:
    """Pictures of any sizes in a row, as RGB; a lower one has zeros below it.

    Of more than three channels the first three are shown, of fewer the first one as grey.
    """
    height, row = max(picture.shape[-3] for picture in pictures), []
    for picture in pictures:
        seen = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1]
        seen = seen.expand(*seen.shape[:-1], 3)
        row.append(F.pad(seen, (0, 0, 0, 0, 0, height - seen.shape[-3])))
    return torch.cat(row, -2)


def picture(
    space: Image | Grid, value: UInt8[Tensor, "*batch height width channel"]
) -> UInt8[Tensor, "*batch height width _"]:
    """An observation as a picture: an image as it is, a grid in the colours of its classes."""
    if isinstance(space, Image):
        return value
    return (255 * grid_colours(space.one_hot(value).float())).round().byte()


def grid_colours(
    cells: Float[Tensor, "*batch height width channel classes"],
) -> Float[Tensor, "*batch height width 3"]:
    """A grid's one-hots or probabilities as RGB in [0, 1].

    Class 0 is black, each other class of each channel has a hue of its own, and channels add up.
    """
    channels, classes = cells.shape[-2:]
    hues = [[(c + k / classes) * 0.618 % 1 for k in range(classes)] for c in range(channels)]
    palette = cells.new_tensor([[colorsys.hsv_to_rgb(h, 0.7, 1) for h in row] for row in hues])
    palette[:, 0] = 0
    return torch.einsum("...ck,ckr->...r", cells, palette).clamp(max=1)


def comparison(
    truth: Float[Tensor, "batch time height width channel"],
    imagined: Float[Tensor, "batch time height width channel"],
) -> tuple[UInt8[np.ndarray, "batch time height width 3"], ...]:
    """The rows of `open_loop_grid` as RGB: truth, imagination and their error."""
    real, guess = (x.detach().float().cpu().clamp(0, 1) for x in (truth, imagined))
    return _rgb(real), _rgb(guess), _heat((real - guess).abs().mean(-1) / 0.5)


class _Canvas:
    """Layout and drawing of a frame of the grid."""

    def __init__(self, batch: int, time: int, height: int, width: int) -> None:
        self.image = extra("PIL.Image", "open_loop_grid")
        self.draw = extra("PIL.ImageDraw", "open_loop_grid")
        self.font = extra("PIL.ImageFont", "open_loop_grid").load_default(15)
        self.batch, self.time, self.height, self.width = batch, time, height, width
        self.size = (
            LABELS + batch * (width + GAP) + GAP // 2,
            HEADER + len(ROWS) * (height + GAP) + FOOTER,
        )

    def frame(self, rows: list[np.ndarray], t: int, context: int) -> UInt8[Tensor, "_ _ 3"]:
        picture = self.image.new("RGB", self.size, PAPER)
        draw = self.draw.Draw(picture)
        colour = CONTEXT if t < context else OPEN
        words = f"context {t + 1} / {context}" if t < context else f"open loop +{t + 1 - context}"
        draw.text((LABELS, HEADER / 2), words, fill=colour, font=self.font, anchor="lm")
        for row, (name, frames) in enumerate(zip(ROWS, rows, strict=True)):
            top = HEADER + row * (self.height + GAP)
            middle = (LABELS - 14, top + self.height / 2)
            draw.text(middle, name, fill=INK, font=self.font, anchor="rm")
            for column in range(self.batch):
                left = LABELS + column * (self.width + GAP)
                box = (left - BORDER, top - BORDER)
                end = (left + self.width + BORDER - 1, top + self.height + BORDER - 1)
                draw.rectangle((*box, *end), fill=colour)
                picture.paste(self.image.fromarray(frames[column, t]), (left, top))
        self._timeline(draw, t, context)
        return torch.from_numpy(np.array(picture))

    def _timeline(self, draw: Any, t: int, context: int) -> None:
        """A bar at the bottom: the position in the video, and the start of the open loop."""
        left, right = LABELS - BORDER, self.size[0] - GAP - GAP // 2 + BORDER - 1
        y = self.size[1] - FOOTER / 2 - 2
        at = [left + (right - left) * n / self.time for n in (0, context, t + 1, self.time)]
        draw.rectangle((at[0], y, at[3], y + 3), fill=FAINT)
        draw.rectangle((at[0], y, min(at[1], at[2]), y + 3), fill=CONTEXT)
        if at[2] > at[1]:
            draw.rectangle((at[1], y, at[2], y + 3), fill=OPEN)


def _palette(image: Any, frame: np.ndarray, scale: int) -> Any:
    """One frame, quantised to its own 256 colours and then enlarged."""
    picture = image.fromarray(np.ascontiguousarray(frame))
    picture = picture.quantize(256, method=image.Quantize.MEDIANCUT, dither=image.Dither.NONE)
    height, width = frame.shape[:2]
    return picture.resize((width * scale, height * scale), image.Resampling.NEAREST)


def _rgb(x: Tensor) -> np.ndarray:
    x = x[..., :3] if x.shape[-1] >= 3 else x[..., :1].expand(*x.shape[:-1], 3)
    return (x * 255).round().to(torch.uint8).numpy()


def _heat(x: Tensor) -> np.ndarray:
    """Map numbers in [0, 1] to colours."""
    at = np.linspace(0, 1, len(ERROR))
    channels = [np.interp(x.numpy(), at, [colour[c] for colour in ERROR]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)

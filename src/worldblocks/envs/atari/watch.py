"""Watch Atari games: a window, or a video file of each episode at full resolution."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

_FRAMES = 60  # a second, of the console


def check_render(render: str) -> None:
    """Raise unless `render` is "", "window" with a display, or a GIF that can be written.

    Raises:
        ValueError: it is none of these.
        RuntimeError: there is no display.
        OSError: the folder of the file cannot be written.
    """
    if render == "window":
        named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
        if sys.platform == "linux" and not any(map(os.environ.get, named)):
            raise RuntimeError(
                "wb.envs.atari was asked for render='window', but this machine has no display; "
                "render='episode.gif' writes a video of each episode"
            )
    elif render:
        path = Path(render)
        if path.suffix != ".gif":
            raise ValueError(
                f"wb.envs.atari got render={render!r}; it takes 'window', or the path of a video "
                f"that ends in .gif"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            first = _Gif(path, 1)
        except OSError as cause:
            raise OSError(
                f"wb.envs.atari cannot write videos to {path.parent} ({cause}); give render= the "
                f"path of a file in another folder"
            ) from cause
        first.close()
        first.path.unlink()


class Recorder:
    """Writes each episode as `name-0.gif`, `name-1.gif` …, with the first number that is free.

    Several environments may share one path. Frames are written as they come.

    Args:
        path: `folder/name.gif`.
        repeat: emulated frames from one picture to the next.
    """

    def __init__(self, path: str, repeat: int) -> None:
        self._path, self._repeat = Path(path), repeat
        self._file: _Gif | None = None

    def add(self, frame: np.ndarray, first: bool, last: bool) -> None:
        """Add an RGB frame; `first` begins a file, `last` ends it."""
        if first or self._file is None:
            self.close()
            self._file = _Gif(self._path, self._repeat)
        self._file.add(frame)
        if last:
            self.close()

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
        self._file = None


class _Gif:
    """A GIF that is written frame by frame, with the exact colours: the console has 128."""

    def __init__(self, path: Path, repeat: int) -> None:
        number = 0
        while True:
            self.path = path.with_name(f"{path.stem}-{number}.gif")
            try:
                self._stream = self.path.open("xb")
                break
            except FileExistsError:
                number += 1
        self._duration = max(2, round(100 * repeat / _FRAMES)) * 10
        self._begun = False

    def add(self, frame: np.ndarray) -> None:
        from PIL import GifImagePlugin

        picture = _indexed(frame)
        if not self._begun:
            # A looping animation: Netscape's block follows the header.
            for part in GifImagePlugin.getheader(picture, info={"loop": 0})[0]:
                self._stream.write(part)
            self._begun = True
        shown = GifImagePlugin.getdata(
            picture, duration=self._duration, include_color_table=True, disposal=1
        )
        for part in shown:
            self._stream.write(part)

    def close(self) -> None:
        if not self._stream.closed:
            self._stream.write(b";")
            self._stream.close()


def _indexed(frame: np.ndarray) -> Any:
    """An RGB frame as a picture with a palette; its colours are exact up to 256."""
    from PIL import Image

    flat = frame.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, index = np.unique(flat, return_inverse=True)
    if len(colours) > 256:
        return Image.fromarray(frame).quantize(256)
    picture = Image.fromarray(index.reshape(flat.shape).astype(np.uint8), "P")
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
    picture.putpalette(rgb.tobytes())
    return picture

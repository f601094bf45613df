"""Images of the page: PNG inside SVG, with labels in the colours of the page."""

import base64
import struct
from collections.abc import Sequence
from html import escape
from zlib import compress, crc32

import numpy as np
from jaxtyping import Float, UInt8

LABEL, HEADER, GAP = 74, 22, 4


def png(pixels: UInt8[np.ndarray, "height width 4"]) -> bytes:
    """Encode an RGBA image as PNG."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits of each of RGBA
    parts = ((b"IHDR", header), (b"IDAT", compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def strip(
    rows: Sequence[UInt8[np.ndarray, "time height width 3"]],
    names: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> str:
    """An SVG grid of frames, with one row per name and one column per time step."""
    time, height, width, _ = rows[0].shape
    side = 72  # width of a frame in the SVG
    grid = np.zeros((len(rows) * (height + 1), time * (width + 1), 4), np.uint8)
    for r, frames in enumerate(rows):
        for t, frame in enumerate(frames):
            top, left = r * (height + 1), t * (width + 1)
            grid[top : top + height, left : left + width, :3] = frame
            grid[top : top + height, left : left + width, 3] = 255
    full = (time * side * (width + 1) / width, len(rows) * side * (height + 1) / width)
    place = f'<text class="tick end" x="{LABEL - 8}"'
    words = [
        f'{place} y="{HEADER + (r + 0.5) * full[1] / len(rows):.1f}">{escape(name)}</text>'
        for r, name in enumerate(names)
    ]
    words += [
        f'<text class="tick mid" x="{LABEL + (t + 0.5) * full[0] / time:.1f}" y="14">'
        f"{escape(name)}</text>"
        for t, name in enumerate(columns)
    ]
    return _framed(grid, full, words, title)


def matrix(values: Float[np.ndarray, "rows columns"], labels: tuple[str, str], title: str) -> str:
    """An SVG heat map of numbers in [0, 1]."""
    rows, columns = values.shape
    grid = np.zeros((rows, columns, 4), np.uint8)
    grid[..., :3] = (42, 132, 200)
    grid[..., 3] = 18 + (np.clip(values, 0, 1) * 237).astype(np.uint8)
    full = (max(700.0 * min(columns / 32, 1), 180.0), max(320.0 * min(rows / 32, 1), 80.0))
    words = [
        f'<text class="label" x="{LABEL}" y="14">{escape(labels[0])}</text>',
        f'<text class="label end" x="{LABEL - 8}" y="{HEADER + 12}">{escape(labels[1])}</text>',
    ]
    return _framed(grid, full, words, title)


def _framed(pixels: np.ndarray, full: tuple[float, float], words: list[str], title: str) -> str:
    size = f"0 0 {LABEL + full[0]:.0f} {HEADER + full[1]:.0f}"
    place = f'x="{LABEL}" y="{HEADER}" width="{full[0]:.1f}" height="{full[1]:.1f}"'
    address = "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
    return (
        f'<svg class="pixels" viewBox="{size}" style="max-width:{LABEL + full[0]:.0f}px" '
        f'role="img"><title>{escape(title)}</title>{"".join(words)}'
        f'<image {place} preserveAspectRatio="none" href="{address}"/></svg>'
    )

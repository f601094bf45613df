"""SVG charts in the colours of the page, for light and dark mode."""

import math
from collections.abc import Sequence
from html import escape
from typing import Literal

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 24, 38  # margins for the labels
Values = Sequence[float]


class Chart:
    """Axes with a grid, to which lines, dots and bars are added.

    Args:
        x, y: values that the axes must contain; the vertical axis is widened to whole ticks.
        labels: labels of the horizontal and of the vertical axis.
        log: logarithmic vertical axis, for positive numbers.
        whole: integer ticks only on the horizontal axis.
        height: height of the chart; the width is 420.
    """

    def __init__(
        self,
        x: Values,
        y: Values,
        labels: tuple[str, str],
        *,
        log: bool = False,
        whole: bool = False,
        height: int = HEIGHT,
    ) -> None:
        self.log, self.height, self.labels = log, height, labels
        self.x_limits = _limits(_finite(x))
        ticks = [t for t in _ticks(*self.x_limits, 5) if _inside(t, self.x_limits)]
        self.x_ticks = [t for t in ticks if not whole or t == round(t)]
        if log:
            low, high = _limits([math.log10(value) for value in _finite(y) if value > 0] or [0.0])
            self.y_limits = low, high
            self.y_ticks = _log_ticks(low, high)
        else:
            self.y_ticks = _ticks(*_limits(_finite(y)), 4)
            self.y_limits = self.y_ticks[0], self.y_ticks[-1]
        self.parts: list[str] = []
        self.legend: list[str] = []

    def line(self, x: Values, y: Values, colour: int, name: str = "", dash: bool = False) -> None:
        """A line through the points that are finite."""
        points = [self._at(a, b) for a, b in zip(x, y, strict=True) if self._shown(b)]
        kind = f"c{colour}" + " dash" * dash
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        self.parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        self._key(name, f"stroke {kind}")

    def dots(self, x: Values, y: Values, colour: int, name: str = "", faint: bool = False) -> None:
        """A dot at each finite point."""
        kind, radius = f"dot c{colour}" + " faint" * faint, 2 if faint else 4
        for a, b in zip(x, y, strict=True):
            if self._shown(b):
                left, top = self._at(a, b)
                place = f'cx="{left:.1f}" cy="{top:.1f}" r="{radius}"'
                self.parts.append(f'<circle class="{kind}" {place}/>')
        self._key(name, f"spot c{colour}" + " faint" * faint)

    def bars(self, edges: Values, heights: Values) -> None:
        """Bars from 0, between consecutive edges."""
        for a, b, height in zip(edges, edges[1:], heights, strict=False):
            (left, top), (right, floor) = self._at(a, height), self._at(b, 0.0)
            place = f'x="{left + 0.5:.1f}" y="{min(top, floor):.1f}" '
            size = f'width="{max(right - left - 1, 0.5):.1f}" height="{abs(floor - top):.1f}"'
            self.parts.append(f'<rect class="bar c0" {place}{size}/>')

    def mark(self, value: float, name: str, axis: Literal["x", "y"] = "y") -> None:
        """A dashed line across the axes, with a label."""
        if not _inside(value, self.x_limits if axis == "x" else self.y_limits):
            return
        left, top = self._at(*((value, 1.0) if axis == "x" else (self.x_limits[0], value)))
        if axis == "x":
            self._rule((left, TOP, left, self.height - BOTTOM))
            self.parts.append(_text("tick", left + 4, TOP + 11, name))
        else:
            self._rule((LEFT, top, WIDTH - RIGHT, top))
            baseline = top - 4 if top > TOP + 14 else top + 13
            self.parts.append(_text("tick", LEFT + 5, baseline, name))

    def shade(self, begin: float, end: float, name: str) -> None:
        """Shade a part of the horizontal axis."""
        left, right = self._at(begin, 1.0)[0], self._at(end, 1.0)[0]
        size = f'width="{right - left:.1f}" height="{self.height - TOP - BOTTOM}"'
        self.parts.append(f'<rect class="shade" x="{left:.1f}" y="{TOP}" {size}/>')
        self.parts.append(_text("tick", left + 4, self.height - BOTTOM - 6, name))

    def diagonal(self, name: str) -> None:
        """The line y = x."""
        low = max(self.x_limits[0], self.y_limits[0])
        high = min(self.x_limits[1], self.y_limits[1])
        if low < high:
            self._rule((*self._at(low, low), *self._at(high, high)))
            self._key(name, "stroke rule dash")

    def html(self, title: str) -> str:
        """The chart and its legend; `title` is read by screen readers."""
        head = f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img"><title>{escape(title)}</title>'
        legend = f'<div class="legend">{"".join(self.legend)}</div>' if self.legend else ""
        return f"{head}{self._axes()}{''.join(self.parts)}</svg>{legend}"

    def _shown(self, y: float) -> bool:
        return math.isfinite(y) and (y > 0 or not self.log)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Position of a point; `y` is clipped to the vertical axis."""
        y = (math.log10(y) if y > 0 else self.y_limits[0]) if self.log else y
        (x0, x1), (y0, y1) = self.x_limits, self.y_limits
        left = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        share = min(max((y - y0) / (y1 - y0), 0.0), 1.0)
        return left, self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def _axes(self) -> str:
        floor, parts = self.height - BOTTOM, []
        for tick in self.y_ticks:
            top = self._at(self.x_limits[0], tick)[1]
            ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"'
            parts.append(f'<line class="grid" {ends}/>')
            parts.append(_text("tick end", LEFT - 6, top + 4, short(tick)))
        for tick in self.x_ticks:
            left = self._at(tick, 1.0)[0]
            parts.append(_text("tick mid", left, floor + 15, short(tick)))
        parts.append(
            _text("label mid", (LEFT + WIDTH - RIGHT) / 2, self.height - 6, self.labels[0])
        )
        parts.append(_text("label", 4, 12, self.labels[1]))
        return "".join(parts)

    def _rule(self, ends: tuple[float, float, float, float]) -> None:
        a, b, c, d = (f"{end:.1f}" for end in ends)
        self.parts.append(f'<line class="rule dash" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>')

    def _key(self, name: str, kind: str) -> None:
        if name:
            self.legend.append(f'<span><i class="{kind}"></i>{escape(name)}</span>')


def histogram(values: Values, bins: int, labels: tuple[str, str]) -> Chart:
    """A histogram with equally spaced bins, as fractions."""
    low, high = _limits(_finite(values))
    edges = [low + (high - low) * n / bins for n in range(bins + 1)]
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    shares = [count / max(len(values), 1) for count in counts]
    chart = Chart(edges, [0.0, *shares], labels)
    chart.bars(edges, shares)
    return chart


def bar_chart(heights: Values, labels: tuple[str, str], top: float = 0.0) -> Chart:
    """One bar for each of 0, 1, …; the vertical axis contains `top`."""
    edges = [n - 0.5 for n in range(len(heights) + 1)]
    chart = Chart(edges, [0.0, top, *heights], labels, whole=True)
    chart.bars(edges, heights)
    return chart


def short(value: float) -> str:
    """Format a number in a few characters.

    >>> [short(x) for x in (0.0, 12500, 2e6, 0.00025, -1.5)]
    ['0', '12.5k', '2M', '0.00025', '-1.5']
    """
    if abs(value) >= 1e15 or not math.isfinite(value):
        return f"{value:.2g}"
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _text(kind: str, left: float, top: float, words: str) -> str:
    return f'<text class="{kind}" x="{left:.1f}" y="{top:.1f}">{escape(words)}</text>'


def _finite(values: Values) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)] or [0.0]


def _limits(values: Values) -> tuple[float, float]:
    """Minimum and maximum, widened if they are nearly equal."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if high - low > 1e-6 * size > 0:
        return low, high
    half = 0.5 * size or 0.5
    return low - half, high + half


def _inside(value: float, limits: tuple[float, float]) -> bool:
    slack = 1e-6 * (limits[1] - limits[0])
    return limits[0] - slack <= value <= limits[1] + slack


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that span an interval."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [n * step for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; only powers on a long axis, the two ends on a short one."""
    factors = (1, 2, 5) if high - low < 2 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    decades = [d for d in decades if d % max(1, len(decades) // 5) == 0]
    ticks = [n * 10.0**decade for decade in decades for n in factors]
    ticks = [tick for tick in ticks if _inside(math.log10(tick), (low, high))]
    return ticks if len(ticks) > 1 else [10**low, 10**high]

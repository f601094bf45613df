"""The progress display of a run."""

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from worldblocks.run.extras import extra

WINDOW = 60.0  # seconds over which rates are measured; a run slows down when training starts


class Progress:
    """A live display on a terminal, periodic plain lines on a pipe.

        ━━━━━━━━━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━  61%   61,440 / 100,000 steps   2:05 left
        episodes 34   score 12.3   updates/s 8.1   steps/s 130

    Use it as a context manager. `update` costs microseconds and can be called at every step.
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        *,
        unit: str = "steps",
        every: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        total: Environment steps at the end of the run.
        initial: Environment steps made before, in a resumed run.
        unit: Name of the steps.
        every: Seconds between two lines on a pipe.
        stream: Where to write; standard error if None.
        clock: Returns seconds; for rates and the time left.
        """
        self.total = total
        self.unit = unit
        self.every = every
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._step = initial
        self._shown: dict[str, Any] = {}
        self._updates: int | None = None
        start = (clock(), initial, None)
        self._samples: deque[tuple[float, int, int | None]] = deque([start])
        self._logged = self._printed = clock()
        self._live: Any = None

    def __enter__(self) -> "Progress":
        if self._stream.isatty():
            console = extra("rich.console", "Progress").Console(file=self._stream)
            live = extra("rich.live", "Progress").Live
            self._live = live(
                get_renderable=self._render, console=console, refresh_per_second=4, transient=False
            )
            self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, step: int, *, updates: int | None = None, **shown: float | str | None) -> None:
        """Show the state of the run.

        Args:
            step: Environment steps so far.
            updates: Gradient updates so far; shown as updates per second.
            shown: Further figures in order of appearance, such as `episodes=34, score=12.3`; None
                is shown as a dash. A figure stays until it is given again.
        """
        now = self._clock()
        self._step = step
        self._updates = self._updates if updates is None else updates
        self._shown |= shown
        if now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, step, self._updates))
            while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW:
                self._samples.popleft()
        if self._live is None and now - self._printed >= self.every:
            self._print(now)

    def close(self) -> None:
        """Show the last state and stop."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif not self._stream.isatty():
            self._print(self._clock())

    def figures(self) -> dict[str, str]:
        """The text below the bar: the given figures, then the rates."""
        figures = {name: _text(value) for name, value in self._shown.items()}
        steps, updates = self._rates()
        if self._updates is not None:
            figures["updates/s"] = _text(updates)
        figures[f"{self.unit}/s"] = _text(steps)
        return figures

    def rates(self) -> dict[str, float]:
        """Steps and updates per second over the last minute, where known, for a log.

        `seconds` is the time since the previous call; over a log it adds up to that of the run.
        """
        pairs = zip((f"{self.unit}/s", "updates/s"), self._rates(), strict=True)
        rates = {name: rate for name, rate in pairs if rate is not None}
        now = self._clock()
        self._logged, since = now, now - self._logged
        return {**rates, "seconds": since}

    def left(self) -> str:
        """Time left at the current rate, as `1:02:03 left`."""
        rate, remaining = self._rates()[0], max(0, self.total - self._step)
        if not remaining:
            return "done"
        return f"{clock_text(remaining / rate)} left" if rate else "–"

    def _rates(self) -> tuple[float | None, float | None]:
        """Steps and updates per second over the window."""
        samples = list(self._samples)  # the display thread reads while the run appends
        then, step, updates = samples[0]
        for sample in samples:  # updates count from when they were first given
            updates_then, updates = sample[0], sample[2]
            if updates is not None:
                break
        else:
            updates_then = then
        now = self._clock()
        steps = (self._step - step) / (now - then) if now > then else None
        if updates is None or self._updates is None or now <= updates_then:
            return steps, None
        return steps, (self._updates - updates) / (now - updates_then)

    def _print(self, now: float) -> None:
        self._printed = now
        share = self._step / self.total if self.total else 1.0
        figures = "  ".join(f"{name} {text}" for name, text in self.figures().items())
        line = (
            f"{self._step:,} / {self.total:,} {self.unit} ({share:.0%})  {figures}  {self.left()}"
        )
        self._stream.write(line + "\n")
        self._stream.flush()

    def _render(self) -> Any:
        """Two lines for rich: the bar with the count, and the figures."""
        table = extra("rich.table", "Progress").Table
        text = extra("rich.text", "Progress").Text
        bar = extra("rich.progress_bar", "Progress").ProgressBar(self.total, self._step)
        share = self._step / self.total if self.total else 1.0
        top = table.grid(padding=(0, 2, 0, 0), expand=True)
        top.add_column(ratio=1)
        count = f"{self._step:,} / {self.total:,} {self.unit}"
        for _ in range(3):
            top.add_column(no_wrap=True, justify="right")
        top.add_row(bar, f"{share:.0%}", count, text(self.left(), style="cyan"))
        line = text(overflow="fold")
        for name, value in self.figures().items():
            line.append(f"{name} ", style="dim").append(value, style="bold").append("   ")
        return extra("rich.console", "Progress").Group(top, line)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def clock_text(seconds: float) -> str:
    """Seconds as `1:02:03`, or `2:03` under an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

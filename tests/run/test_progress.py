import io
import os
import sys

import pytest

from worldblocks.run import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_a_line_every_ten_seconds():
    clock, stream = Clock(), io.StringIO()
    with Progress(10_000, initial=2000, stream=stream, clock=clock) as progress:
        for second in range(1, 26):
            clock.now = 100.0 + second
            score = None if second < 15 else -1.25
            step = 2000 + 100 * second
            progress.update(step, updates=5000 + 4 * second, episodes=second, score=score)
    assert stream.getvalue().splitlines() == [
        "3,000 / 10,000 steps (30%)  episodes 10  score –  updates/s 4  steps/s 100  1:10 left",
        "4,000 / 10,000 steps (40%)  episodes 20  score -1.25  updates/s 4  steps/s 100  1:00 left",
        "4,500 / 10,000 steps (45%)  episodes 25  score -1.25  updates/s 4  steps/s 100  0:55 left",
    ]


def test_rates_are_those_of_the_last_minute():
    clock = Clock()
    progress = Progress(100_000, stream=io.StringIO(), clock=clock)
    step = 0
    for second in range(1, 301):
        clock.now += 1
        step += 1000 if second <= 100 else 10  # slower once it trains
        progress.update(step, updates=None if second <= 100 else second)
    assert progress.figures() == {"updates/s": "1", "steps/s": "10"}
    assert progress.rates() == {"steps/s": 10.0, "updates/s": 1.0, "seconds": 300.0}
    clock.now += 2
    assert progress.rates()["seconds"] == 2.0
    assert Progress(10, stream=io.StringIO(), clock=clock).rates() == {"seconds": 0.0}


def test_time_left_in_words():
    clock = Clock()
    progress = Progress(100, stream=io.StringIO(), clock=clock)
    assert progress.left() == "–"
    clock.now += 40
    progress.update(1)
    assert progress.left() == "1:06:00 left"
    progress.update(100)
    assert progress.left() == "done"
    Progress(0, stream=io.StringIO()).close()


def test_figures_stay_until_they_are_given_again():
    progress = Progress(10, stream=io.StringIO(), clock=Clock())
    progress.update(1, episodes=1234, score=123.456, phase="prefill")
    progress.update(2, score=0.12345)
    shown = {"episodes": "1,234", "score": "0.123", "phase": "prefill", "steps/s": "–"}
    assert progress.figures() == shown


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_a_live_display(monkeypatch, width):
    monkeypatch.setitem(os.environ, "COLUMNS", str(width))
    monkeypatch.setitem(os.environ, "TERM", "xterm-256color")
    clock, stream = Clock(), Terminal()
    with Progress(100_000, stream=stream, clock=clock) as progress:
        clock.now += 10
        progress.update(61_440, updates=81, episodes=34, score=12.3)
    shown = stream.getvalue()
    for part in ("61%", "61,440 / 100,000 steps", "0:06 left", "episodes", "34", "12.3", "━"):
        assert part in shown
    assert "\x1b[?25h" in shown  # the cursor is visible again


def test_a_pipe_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with Progress(10, stream=io.StringIO()) as progress:
        progress.update(1)
    with pytest.raises(ImportError, match=r"Progress needs the extra 'run' \(rich\): pip inst"):
        Progress(10, stream=Terminal()).__enter__()

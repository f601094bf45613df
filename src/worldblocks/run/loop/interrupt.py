"""Ctrl-C and SIGTERM as a flag that the training loop checks between steps."""

import signal
import threading
from types import FrameType


class Interrupt:
    """Turn SIGINT (Ctrl-C) and SIGTERM into a request to stop at a safe point.

    The loop checks `requested`, and saves before it ends. A second Ctrl-C raises
    `KeyboardInterrupt` at once. The previous handlers are restored on exit. Python delivers signals
    to the main thread only: in another thread nothing is requested.

    >>> with Interrupt() as interrupt:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     print(interrupt.requested, interrupt.signal)
    True SIGTERM
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal: str | None = None  # name of the first signal
        self._interrupts = 0
        self._before: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """Exit code of the process: 128 + the number of the signal; 0 without one."""
        return 128 + signal.Signals[self.signal] if self.signal else 0

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was not installed from Python and cannot be restored.
            if handler is not None:
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self.requested = True
        self.signal = self.signal or signal.Signals(number).name

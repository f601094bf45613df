"""Ctrl-C and SIGTERM as a flag that the training loop reads between two steps."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Turn SIGINT (Ctrl-C) and SIGTERM into a request to stop at a safe place.

    The loop reads `requested` and saves before it leaves. A second Ctrl-C raises
    `KeyboardInterrupt` at once, for whoever cannot wait. The handlers that were there before come
    back on exit. Signals reach only Python's main thread: in another one nothing is requested.

    >>> with Interrupt() as interrupt:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     print(interrupt.requested, interrupt.signal)
    True SIGTERM
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal: str | None = None  # the name of the signal that asked, for the message
        self._interrupts = 0
        self._before: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """What a process that stops for the signal returns: 128 + its number; 0 without one."""
        return 128 + signal.Signals[self.signal] if self.signal else 0

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not installed from Python and cannot be put back.
            if handler is not None:
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self.requested = True
        self.signal = self.signal or signal.Signals(number).name

import signal
import threading

import pytest

from worldblocks.run import Interrupt


@pytest.fixture(autouse=True)
def _handlers():
    """The default SIGINT handler; a shell ignores SIGINT in background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request(number):
    with Interrupt() as interrupt:
        assert (interrupt.requested, interrupt.signal) == (False, None)
        signal.raise_signal(number)
        assert (interrupt.requested, interrupt.signal) == (True, number.name)


def test_a_second_ctrl_c_stops_at_once():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.signal == "SIGTERM"  # the first signal
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_from_before_come_back():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    try:
        with pytest.raises(RuntimeError, match="inside"), Interrupt():
            raise RuntimeError("inside")
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["mine"]


def test_another_thread_is_left_alone():
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

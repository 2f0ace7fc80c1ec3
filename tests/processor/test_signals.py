import os
import signal

import pytest

from processor.signals import stop_requests


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    """Also where the tests were started in the background, for which a shell ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_noted_and_handlers_are_restored(number, status):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert (stop.signal, stop.exit_status) == (number, status)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_sigterm_changes_nothing_and_a_second_ctrl_c_interrupts():
    with stop_requests() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt), stop_requests() as stop:  # noqa: PT012 - it is the second that raises
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)

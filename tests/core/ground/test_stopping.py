import os
import signal
import threading

import pytest

from polymodal.ground.stopping import SIGNALS, Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_noted_and_handlers_are_put_back(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    stop = Stop()
    with stop.listening():
        os.kill(os.getpid(), number)
    assert stop.signal == number
    assert [signal.getsignal(each) for each in SIGNALS] == before
    error = stop.raised("after step 3")
    assert str(error) == f"stopped by {signal.Signals(number).name} after step 3"
    assert error.signal == number


def test_the_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    stop = Stop()

    def twice():
        with stop.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_signals_stay_as_they_are():
    found = []

    def listen():
        with Stop().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]

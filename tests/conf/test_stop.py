"""Signals that are noted: real ones, to this process."""

import signal
import threading

import pytest

from conf import stop


def test_the_first_signal_is_noted_and_what_was_there_comes_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stop.noting(["USR1", "SIGTERM"]):
        assert stop.asked_by() == 0
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert stop.asked_by() == signal.SIGTERM
    assert signal.getsignal(signal.SIGUSR1) == before
    with stop.noting(["TERM"]):
        assert stop.asked_by() == 0


def test_the_second_interrupt_acts() -> None:
    with stop.noting(["INT", "TERM"]):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("name", ["KILL", "usr1", "RT"])
def test_what_no_process_can_handle_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"stop_signals: {name} is no signal that a process can handle; there are "):
        stop.noting([name]).__enter__()


def test_a_thread_leaves_signals_as_they_are() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop.noting(["USR1"]):
            seen.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGUSR1)]

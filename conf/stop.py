"""Signals that ask a run to stop: they are only noted here, and callbacks/checkpoint.py acts on them between steps.

Imports nothing heavy: a signal of the first seconds counts too.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOPPED = 75  # exit status EX_TEMPFAIL of sysexits.h: stopped and saved, and the same command goes on
_received: list[int] = []  # numbers of the signals so far


class Stopped(SystemExit):
    """Ends the process of a run that was asked to stop, once it is saved."""

    def __init__(self) -> None:
        super().__init__(STOPPED)


def asked_by() -> int:
    """The number of the signal that first asked this process to stop; 0 where none has."""
    return _received[0] if _received else 0


@contextmanager
def noting(names: Sequence[str]) -> Iterator[None]:
    """Note the signals of these `names` (USR1 is SIGUSR1) instead of what they would do; the second Ctrl-C acts.

    Worker processes that are forked inside inherit it, and nobody reads their notes. Raises ValueError for a name that
    no signal has, or whose signal no process can handle. Python allows it to the main thread alone; elsewhere, as in a
    launcher of threads, the signals stay what they are.
    """
    numbers = [_number(name) for name in names]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    except Stopped:
        # This process ends now, and with this status, also where Slurm, asked to start it again, would hurry it.
        before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _note(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and number in _received:
        raise KeyboardInterrupt
    _received.append(number)


def _number(name: str) -> signal.Signals:
    known = {each.name.removeprefix("SIG"): each for each in signal.Signals}
    known = {each: known[each] for each in known if each not in ("KILL", "STOP")}
    if name.removeprefix("SIG") not in known:
        raise ValueError(f"stop_signals: {name} is no signal that a process can handle; there are {', '.join(known)}")
    return known[name.removeprefix("SIG")]

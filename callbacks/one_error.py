"""Where one of several processes fails or is killed, all end, with one message."""

import os
import signal
import sys
from subprocess import Popen
from threading import Thread
from time import sleep
from typing import Any

import pytorch_lightning as pl

from conf.stop import STOPPED

PATIENCE = 10.0  # seconds that another process waits to be ended
ENDING = 3.0  # seconds that a process which has failed takes to end
Children = list[Popen[bytes]]


class OneError(pl.Callback):
    """The first process ends those that it started, then speaks; another one waits to be ended before it speaks.

    So an error of all is told once, and one of another process alone by that process. One that is killed cannot speak:
    the first process does, and ends even where it hangs in what it did together with that one.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        started = _started(trainer)
        if started and stage == "fit":
            launcher: Any = trainer.strategy.launcher
            launcher.procs = [*started]
            started.clear()  # ends Lightning's observer, which would kill this process without a word
            Thread(target=_watch, args=(launcher.procs,), daemon=True).start()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Exception):  # a signal, which all of them get
            return
        if not trainer.is_global_zero:
            sleep(PATIENCE)
            return
        children = _started(trainer)
        is_lost_connection = isinstance(exception, RuntimeError) and _one_has_failed(children)
        message = _killed(children)
        _end(children)
        if is_lost_connection and message:
            raise ChildProcessError(message) from exception
        if is_lost_connection:
            sys.exit(1)


def _started(trainer: pl.Trainer) -> Children:
    """The processes that Lightning started from this one; an empty list where others did."""
    return getattr(trainer.strategy.launcher, "procs", [])


def _watch(children: Children) -> None:
    """End this process some time after one of the `children` has ended otherwise than all do."""
    while any(child.poll() is None for child in children) and not _one_failed(children):
        sleep(1.0)  # seconds
    if _one_failed(children):
        sleep(PATIENCE)  # in which this process usually finds it out, and ends them all
    if not _one_failed(children):
        return
    message = _killed(children)
    _end(children)
    if message:
        print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)


def _one_failed(children: Children) -> bool:
    return any(child.poll() not in (None, 0, STOPPED) for child in children)


def _one_has_failed(children: Children) -> bool:
    """Whether one of them ended, and so has said why, within the time that it takes to end."""
    for _ in range(round(10 * ENDING) if children else 0):
        if _one_failed(children):
            return True
        sleep(0.1)  # seconds
    return False


def _killed(children: Children) -> str:
    """What the first process says for one that was killed; nothing where none was."""
    for rank, child in enumerate(children, 1):
        if child.returncode is not None and child.returncode < 0:
            name = signal.Signals(-child.returncode).name
            return f"process {rank} was killed by {name}; the same command goes on from the last checkpoint"
    return ""


def _end(children: Children) -> None:
    while children:
        child = children.pop()  # so that nobody takes it for one that was killed by somebody else
        child.kill()
        child.wait()

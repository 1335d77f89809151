"""Where one of several processes fails, all end, with one message."""

import sys
from subprocess import Popen
from time import sleep
from typing import Any

import pytorch_lightning as pl

PATIENCE = 10.0  # seconds that another process waits to be ended
ENDING = 3.0  # seconds that a process which has failed takes to end


class OneError(pl.Callback):
    """The first process ends those that it started, then speaks; another one waits to be ended before it speaks.

    So an error of all is told once, and one of another process alone by that process.
    """

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Exception):  # a signal, which all of them get
            return
        if not trainer.is_global_zero:
            sleep(PATIENCE)
            return
        launcher: Any = trainer.strategy.launcher
        started = getattr(launcher, "procs", [])
        children = [*started]
        started.clear()  # Lightning's observer would kill this process for the death of one of them
        is_lost_connection = isinstance(exception, RuntimeError) and _one_has_failed(children)
        for child in children:
            child.kill()
            child.wait()
        if is_lost_connection:
            sys.exit(1)


def _one_has_failed(children: list[Popen[bytes]]) -> bool:
    """Whether one of them ended, and so has said why, within the time that it takes to end."""
    for _ in range(round(10 * ENDING) if children else 0):
        if any(child.poll() for child in children):
            return True
        sleep(0.1)  # seconds
    return False

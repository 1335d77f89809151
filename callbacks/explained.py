"""What a machine refuses a run, in words that say what to change: memory, disk, or a process that is gone."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from callbacks.checkpoint import NotSavedError

FULL = (errno.ENOSPC, errno.EDQUOT)
GOES_ON = "the same command goes on from the last checkpoint"


@contextmanager
def explained(config: dict[str, Any], processes: int) -> Iterator[None]:
    """Errors of the machine become OSErrors with advice; others pass. `config` is that of a run of `processes`."""
    before, threading.excepthook = threading.excepthook, _in_a_thread
    try:
        yield
    except Exception as error:
        causes = [*_causes(error)]
        messages = [str(cause) for cause in causes if isinstance(cause, NotSavedError | ChildProcessError)]
        messages += filter(None, (_explain(cause, config, processes) for cause in causes))
        if not messages:
            raise
        raise OSError(messages[0]) from error
    finally:
        threading.excepthook = before


def _in_a_thread(arguments: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread comes to a full disk first; whoever writes through it gets the same error."""
    if not _full(arguments.exc_value):
        threading.__excepthook__(arguments)


def _full(error: BaseException | None) -> str:
    """How the system says that there is no room; nothing where it says something else."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno in FULL else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """From the first error to the last: loggers that are closed for one may come to one of their own."""
    if error is not None:
        yield from _causes(error.__cause__ or error.__context__)
        yield error


def _explain(error: BaseException, config: dict[str, Any], processes: int) -> str | None:
    first_line = str(error).strip().partition("\n")[0]
    if full := _full(error):
        return f"cannot write to {config['run_dir']} ({full}); make room there: {GOES_ON}"
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in first_line:
        return _out_of_memory(config, processes, first_line)
    if re.match(r"DataLoader worker .* killed by signal", first_line):
        return f"{first_line}; where that was for want of memory, lower data.num_workers: {GOES_ON}"
    if isinstance(error, torch.distributed.DistError) or "gloo" in first_line:
        first_line = re.sub(r"^\[\S*gloo\S*\] |\. This is typically .*", "", first_line)  # where in its code; a guess
        return f"the connection to another process of this run is lost ({first_line}); {GOES_ON}"
    return None


def _out_of_memory(config: dict[str, Any], processes: int, reason: str) -> str:
    batch = config["data"]["batch_size"]
    accumulated = config["trainer"].get("accumulate_grad_batches", 1)
    halves = f"data.batch_size={batch // 2} trainer.accumulate_grad_batches={2 * accumulated}"
    fewer = f"{halves} takes half of them for steps of as many images; or try " if batch > processes else "try "
    return (
        f"out of memory with {batch // processes} images a process (data.batch_size={batch}, processes: {processes}; "
        f"{reason}); {fewer}trainer.precision=bf16-mixed, or a smaller network"
    )

"""Commands of this project in processes of their own, forked from one that has imported everything already.

A process that is started anew spends five seconds on imports. Instead, the standard library's fork server imports once
(tests/preloaded.py) and computes nothing itself, so that a process forked from it is as good as a new one.
"""

import functools
import multiprocessing
import os
import runpy
import socket
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from conf.stop import STOPPED
from tests.conftest import ROOT

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preloaded"])
NUMBERS = count()


@functools.cache
def _scratch() -> TemporaryDirectory[str]:
    """For the processes' output; not made by these themselves, which import this file too and clean nothing up."""
    return TemporaryDirectory(prefix="cheapconv-tests-")


@dataclass(frozen=True)
class Done:
    """A process that has ended: its exit status (minus the number of the signal that killed it) and its output."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """`python script arguments...`, started now; `environment` is added to the environment of this process."""

    def __init__(self, script: str | Path, *arguments: str, **environment: str) -> None:
        place = Path(_scratch().name) / str(next(NUMBERS))
        self.outputs = place.with_suffix(".out"), place.with_suffix(".err")
        for path in self.outputs:
            path.touch()
        command = [str(script), *arguments]
        new = command, {**os.environ, **environment}, self.outputs, multiprocessing.get_start_method()
        self.process = SERVER.Process(target=_become, args=new)
        self.process.start()

    def end(self, timeout: float = 300) -> Done:
        """Wait for the end; kills the process and raises TimeoutError where it takes longer than `timeout` seconds."""
        self.process.join(timeout)
        out, err = (path.read_text() for path in self.outputs)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"not finished after {timeout} seconds:\n{out}\n{err}")
        return Done(self.process.exitcode, out, err)


def run(script: str | Path, *arguments: str, status: int | None = None, **environment: str) -> Done:
    """`python script arguments...` from start to end; AssertionError where it ends with another `status`."""
    done = Command(script, *arguments, **environment).end()
    assert status is None or done.returncode == status, done.stderr
    return done


def start_ranks(number: int, script: str | Path, *arguments: str, **environment: str) -> list[Command]:
    """As many processes as there are ranks, started as torchrun does.

    Ranks that Lightning starts itself would be new processes, with five seconds of imports in each.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(number)}
    return [Command(script, *arguments, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(number)]


def run_ranks(number: int, script: str | Path, *arguments: str, **environment: str) -> list[Done]:
    """`start_ranks` from start to end; where the first one fails, the others are killed."""
    started = start_ranks(number, script, *arguments, **environment)
    first = started[0].end()
    if first.returncode not in (0, STOPPED):
        for command in started[1:]:
            command.process.kill()
    return [first, *(command.end() for command in started[1:])]


def _become(command: list[str], environment: dict[str, str], outputs: tuple[Path, Path], start_method: str) -> None:
    """Make this process what `python script arguments...` would be."""
    multiprocessing.set_start_method(start_method, force=True)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).resolve().parent))
    runpy.run_path(command[0], run_name="__main__")

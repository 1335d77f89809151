"""Faults that come to a run at a random moment, and what that costs: used by tests/fault_campaign.py.

Each is a function of a Training, the directory of its run and a random.Random; it starts the processes, lets the fault
come to them, sees them end and repairs what a person would: the disk that was full is given room.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests import processes
from tests.resumption import checkpoint

LAUNCHER = 15.0  # seconds after which a launcher as torchrun or srun kills what is left, where one process has failed
DISK = 3 << 20  # bytes of the file system that becomes full: some checkpoints


@dataclass(frozen=True)
class Training:
    """A configuration, its number of processes, the directory of its undisturbed run and the seconds that one took."""

    name: str
    arguments: list[str]
    ranks: int
    straight: Path
    seconds: float

    def start(self, run_dir: Path, **environment: str) -> list[processes.Command]:
        given = ["trainer.accelerator=cpu", f"run_dir={run_dir}", *self.arguments]
        environment = {"FAULT_AT": "never", "STEPS": str(_progress(run_dir))} | environment
        if self.ranks == 1:
            return [processes.Command("tests/train_faulty.py", *given, **environment)]
        given += [f"trainer.devices={self.ranks}", "trainer.strategy=ddp"]
        return processes.start_ranks(self.ranks, "tests/train_faulty.py", *given, **environment)


@dataclass(frozen=True)
class Outcome:
    """What a fault came to: the exit statuses by rank, the work that is lost with it, and what was said."""

    statuses: list[int]
    steps: int
    seconds: float
    ending: float  # seconds from the fault to the end of the last process
    was_killed: bool  # by what stands for a launcher
    said: str


Fault = Callable[[Training, Path, random.Random], Outcome]


def signalled(number: signal.Signals, to_all: bool = False) -> Fault:
    """The signal comes to one of the processes, or to all of them, as when the machine fails."""

    def fault(training: Training, run_dir: Path, draw: random.Random) -> Outcome:
        commands = training.start(run_dir)
        _sleep(commands, draw.uniform(0, training.seconds))
        return _end(run_dir, commands, number, commands if to_all else [draw.choice(commands)])

    return fault


def disk_full(training: Training, run_dir: Path, draw: random.Random) -> Outcome:
    """`run_dir` lies on a small file system, which fills up, and has room again after the end of the run."""
    disk = run_dir.parent
    if not disk.is_mount():
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], check=True)
    commands = training.start(run_dir)
    _sleep(commands, draw.uniform(0, training.seconds))
    with suppress(OSError), open(disk / "fill", "wb", buffering=0) as fill:
        while True:
            fill.write(bytes(4096))
    outcome = _end(run_dir, commands, None, [])
    (disk / "fill").unlink()
    return outcome


def truncated(training: Training, run_dir: Path, draw: random.Random) -> Outcome:
    """All processes are killed, and of the last checkpoint a part is left."""
    commands = training.start(run_dir)
    while not (run_dir / "previous.ckpt").exists() and all(command.process.is_alive() for command in commands):
        time.sleep(0.005)
    _sleep(commands, draw.uniform(0, training.seconds / 4))
    outcome = _end(run_dir, commands, signal.SIGKILL, commands)
    last = run_dir / "last.ckpt"
    if last.exists() and not (run_dir / "result.json").exists():  # not where it is set aside already, or finished
        os.truncate(last, draw.randrange(last.stat().st_size))
    steps, seconds = _lost(run_dir, time.time())
    return replace(outcome, steps=steps, seconds=seconds)


def no_number(training: Training, run_dir: Path, draw: random.Random) -> Outcome:
    """A weight of the first process becomes NaN before a step."""
    step = draw.randrange(checkpoint(training.straight)["global_step"])
    commands = training.start(run_dir, FAULT_AT=str(step), FAULT="NAN", FAULT_RANK="0")
    outcome = _end(run_dir, commands, None, [])
    first = f"step {step + 1} (training images "
    assert outcome.statuses[0] in (0, 1), outcome.said  # 0: a start that was past that step already
    assert outcome.statuses[0] == 0 or first in outcome.said, outcome.said
    return outcome


FAULTS: dict[str, Fault] = {
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGINT": signalled(signal.SIGINT),
    "SIGUSR1": signalled(signal.SIGUSR1),
    "SIGKILL": signalled(signal.SIGKILL, to_all=True),
    "disk full": disk_full,
    "truncated": truncated,
    "NaN": no_number,
    "dead rank": signalled(signal.SIGKILL),
    "SIGUSR2": signalled(signal.SIGUSR2),
}


def _sleep(commands: list[processes.Command], seconds: float) -> None:
    """So long, or until one of the processes ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(command.process.is_alive() for command in commands):
        time.sleep(0.005)


def _end(
    run_dir: Path, commands: list[processes.Command], number: signal.Signals | None, to: list[processes.Command]
) -> Outcome:
    """Send the signal to the processes that are alive, wait for the end of all and count what is lost with them."""
    now = time.time()
    for command in to:
        if number and command.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(command.process.pid or 0, number)
    was_killed = _wait(commands)
    ending = time.time() - now
    done = [command.end() for command in commands]
    steps, seconds = _lost(run_dir, now if number else time.time())
    said = "\n".join(each.stderr for each in done)
    return Outcome([each.returncode for each in done], steps, seconds, ending, was_killed, said)


def _wait(commands: list[processes.Command]) -> bool:
    """Until all have ended; whether some had to be killed, long after another one had failed."""
    failed_at = None
    while any(command.process.is_alive() for command in commands):
        if failed_at is None and any(command.process.exitcode for command in commands):
            failed_at = time.monotonic()
        if failed_at and time.monotonic() > failed_at + LAUNCHER:
            for command in commands:
                command.process.kill()
            return True
        time.sleep(0.01)
    return False


def _lost(run_dir: Path, moment: float) -> tuple[int, float]:
    """Steps done since the last checkpoint, or since the start, and the seconds that they took until `moment`."""
    progress = _progress(run_dir)
    if not progress.exists() or not progress.read_text():
        return 0, 0.0
    kept, since = 0, 0.0
    for path in (run_dir / "previous.ckpt", run_dir / "last.ckpt"):
        with suppress(OSError, RuntimeError, EOFError):  # there is none, or a part of one
            kept, since = checkpoint(run_dir, path.name)["global_step"], path.stat().st_mtime
    step, first_at = progress.read_text().split()
    steps, since = max(0, int(step) - kept), max(since, float(first_at))
    return steps, max(0.0, moment - since) if steps else 0.0


def _progress(run_dir: Path) -> Path:
    """Where the run says what it has behind it: not on the disk that becomes full."""
    return run_dir.parent.with_suffix(".steps")

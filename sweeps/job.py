"""One job of a sweep in a process of its own, which writes what it says to log.txt in the run's directory.

So the processes of a distributed training never compose the sweep again, no job sees what another one left behind, and
every launcher does the same, here or on another machine: it calls `run_job` or `train_apart`.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conf.command import arguments
from conf.lock import owner
from conf.logs import is_first_process
from conf.stop import STOPPED, Stopped, asked_by, noting
from models.run_directory import RESULT

LOG = "log.txt"
ROOT = Path(__file__).parents[1]
PROMPT, STATUS = "$ ", "exit status "  # how the first and the last line of an attempt begin in the log


@dataclass(frozen=True)
class Process:
    """What the process of a job is started with: `arguments` of train.py, its working and its run directory, and what
    signals it is to heed.
    """

    arguments: list[str]
    cwd: str
    directory: Path
    stop_signals: list[str]


def run_job(config: DictConfig) -> int:
    """Train what `config`, the job of a sweep that Hydra runs here, says in a process of its own; its exit status."""
    return train_apart(_process(config, HydraConfig.get()))


def process_of(composed: DictConfig) -> Process:
    """The process for the job of a sweep that is `composed`, Hydra's own node with it."""
    return _process(composed, composed.hydra)


def _process(config: DictConfig, hydra: Any) -> Process:
    cwd = hydra.runtime.cwd
    return Process(arguments(hydra), cwd, Path(cwd, config.run_dir), list(config.stop_signals))


def train_apart(job: Process) -> int:
    """The exit status of the process of `job`, started now and told of the signals that this one gets.

    Nothing is started where the run is finished by now, where another process trains it, or once this one was asked to
    stop. Where Slurm starts several processes for a job, all call this, and the first keeps the log.
    """
    status = _train_logged(job) if is_first_process() else _train(job, sys.stdout.buffer)
    if status == STOPPED and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        raise Stopped  # for submitit a job that returns has ended, whereas Slurm may start it again
    return status


def _train_logged(job: Process) -> int:
    if (job.directory / RESULT).is_file():
        return 0
    if asked_by() or owner(job.directory):
        return STOPPED
    job.directory.mkdir(parents=True, exist_ok=True)
    with (job.directory / LOG).open("ab", buffering=0) as log:
        log.write(f"{PROMPT}python train.py {shlex.join(job.arguments)}\n".encode())
        status = _train(job, log)
        log.write(f"{STATUS}{status}\n".encode())
    return status


def _train(job: Process, log: BinaryIO) -> int:
    command = [sys.executable, str(ROOT / "train.py"), *job.arguments]
    with noting(job.stop_signals):
        # Its own process group: Ctrl-C would reach it from the terminal and once more from here.
        child = subprocess.Popen(
            command,
            cwd=job.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=_end_with_parent,
        )
        told = False
        while child.poll() is None:
            try:
                if asked_by() and not told:
                    child.send_signal(asked_by())
                    told = True
                sleep(0.1)
            except KeyboardInterrupt:  # the second one
                child.send_signal(signal.SIGINT)
        return STOPPED if told and child.returncode == -asked_by() else child.returncode  # it had not begun yet


def _end_with_parent() -> None:
    """Let Linux send SIGTERM to this process when the sweep's is gone, however it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

"""One job of a sweep in a process of its own, which writes what it says to log.txt in the run's directory.

So the processes of a distributed training never compose the sweep again, no job sees what another one left behind, and
every launcher does the same: it calls `run_job`, here or on another machine.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import BinaryIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conf.lock import owner
from conf.stop import STOPPED, asked_by, noting
from models.run_directory import RESULT

LOG = "log.txt"
ROOT = Path(__file__).parents[1]
PROMPT, STATUS = "$ ", "exit status "  # how the first and the last line of an attempt begin in the log
REQUEUED = 300  # seconds within which Slurm ends a job that is queued again


def run_job(config: DictConfig) -> int:
    """Train what `config`, the job of a sweep, says in a process of its own; its exit status.

    Nothing is started where the run is finished by now, where another process trains it, or once this one was asked to
    stop.
    """
    hydra = HydraConfig.get()
    sources = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    arguments = [f"--config-dir={path.removeprefix('file://')}" for path in sources] + list(hydra.overrides.task)
    directory = Path(hydra.runtime.cwd, config.run_dir)
    if (directory / RESULT).is_file():
        return 0
    if asked_by() or owner(directory):
        return STOPPED
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOG).open("ab", buffering=0) as log, noting(config.stop_signals):
        status = _train(arguments, hydra.runtime.cwd, log)
        asked = asked_by()
    if status == STOPPED and asked in (signal.SIGUSR1, signal.SIGUSR2) and "SLURM_JOB_ID" in os.environ:
        sleep(REQUEUED)  # or else the job would be finished, and its second start have nobody to report to
    return status


def _train(arguments: list[str], cwd: str, log: BinaryIO) -> int:
    log.write(f"{PROMPT}python train.py {' '.join(arguments)}\n".encode())
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    # Its own process group: Ctrl-C would reach it from the terminal and once more from here.
    child = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, preexec_fn=_end_with_parent
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
    log.write(f"{STATUS}{child.returncode}\n".encode())
    return child.returncode


def _end_with_parent() -> None:
    """Let Linux send SIGTERM to this process when the sweep's is gone, however it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

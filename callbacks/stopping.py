"""End a run that was asked to stop, and see to it that it goes on: all its processes, and its Slurm job."""

import logging
import os
import signal
import subprocess
from typing import NoReturn

import pytorch_lightning as pl

from conf.stop import Stopped

log = logging.getLogger(__name__)
ENDING = 30.0  # seconds that processes have to end, and scontrol to answer
# The warnings before a time limit. SIGTERM comes with scancel, which must be the end, and with preemption, after which
# Slurm requeues by itself.
REQUEUED = (signal.SIGUSR1, signal.SIGUSR2)


def leave_to_us(trainer: pl.Trainer) -> None:
    """Keep Lightning from what it would do on its own about signals and checkpoints."""
    # Its handler of SIGTERM talks to other processes in the middle of whatever this one was about.
    trainer._signal_connector.register_signal_handlers = lambda: None
    # Nor need all wait for one another before each step to learn of it.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    # Under Slurm it would restore an old hpc_ckpt_*.ckpt, even before the test.
    checkpoints = trainer._checkpoint_connector
    checkpoints._select_ckpt_path = lambda state_fn, ckpt_path, model_provided, model_connected: ckpt_path


def stop(trainer: pl.Trainer, number: int, done: str) -> NoReturn:
    """End each process of the run with Stopped, for the signal of this `number`; all must call it.

    The first process says what is `done`.
    """
    if trainer.is_global_zero:
        log.info(f"{signal.Signals(number).name}: {done}; the same command goes on")
        for child in getattr(trainer.strategy.launcher, "procs", []):
            _wait(child)
        if number in REQUEUED and "SLURM_JOB_ID" in os.environ:
            _requeue()
    raise Stopped


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(ENDING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _requeue() -> None:
    """Have Slurm start this job again; where it does not, a warning."""
    job, array = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "ARRAY_JOB_ID"))
    if array:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "requeue", str(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENDING)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        log.warning(f"{' '.join(command)}: {problem}; submit the same command again (sbatch --requeue allows it)")
    else:
        log.info(f"Slurm starts job {job} again")

"""Run the jobs of a sweep through submitit, on Slurm or on this machine, and wait for all of them."""

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from time import sleep
from typing import Any

import submitit

from conf.stop import asked_by
from sweeps.job import ROOT, Process, train_apart
from sweeps.squeue import Squeue

log = logging.getLogger(__name__)
PERIOD = 1.0  # seconds
# What submitit calls alike for all clusters; whatever else there is belongs to one.
SHARED = {"name", "nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "timeout_min", "stderr_to_stdout"}


def run_all(jobs: Sequence[Process], cluster: str, folder: str, parallel: int, parameters: dict[str, Any]) -> None:
    """Submit `jobs` to `cluster`, slurm or local, which runs `parallel` of them at the same time.

    Returns once all have ended, however they did. Asked to stop, it leaves the jobs of Slurm to Slurm, and asks those
    of this machine to stop, too. `parameters` are what a job is to have (conf/hydra/launcher).
    """
    # The processes find this code wherever they start.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    executor = submitit.AutoExecutor(folder, cluster=cluster)
    named = {name if name in SHARED else f"{cluster}_{name}": value for name, value in parameters.items()}
    if cluster == "slurm":
        submitit.SlurmJob.watcher = Squeue()
        executor.update_parameters(**named, slurm_array_parallelism=parallel)
        _leave_to_slurm(executor.map_array(train_apart, jobs))
    else:
        executor.update_parameters(**named)
        _run_here(executor, jobs, parallel)


def _leave_to_slurm(jobs: Sequence[submitit.Job[Any]]) -> None:
    numbers = " ".join(sorted({job.job_id.partition("_")[0] for job in jobs}))
    log.info(f"submitted to Slurm: {numbers}")
    while not all(job.done() for job in jobs):
        if asked_by():
            log.info(f"the jobs go on without this process; they are ended by: scancel {numbers}")
            return
        sleep(PERIOD)


def _run_here(executor: submitit.Executor, jobs: Sequence[Process], parallel: int) -> None:
    waiting, running = list(jobs), list[submitit.Job[Any]]()
    told = False
    while running or (waiting and not asked_by()):
        if asked_by() and not told:
            told = True
            for job in running:
                with suppress(ProcessLookupError):  # it ended just now
                    os.kill(int(job.job_id), signal.SIGTERM)
        while waiting and len(running) < parallel and not asked_by():
            running.append(executor.submit(train_apart, waiting.pop(0)))
        sleep(PERIOD)
        running = [job for job in running if not job.done()]

"""Run the jobs of a sweep that are not finished, and say what came of all of them."""

import logging
import os
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from conf.launch import explain
from conf.logs import log_to_stderr
from conf.run import finished
from conf.stop import STOPPED, noting
from sweeps.dry import dry_table
from sweeps.outcome import State, outcome
from sweeps.plan import Job, Overrides, plan
from sweeps.table import text_table
from sweeps.watch import watching

log = logging.getLogger(__name__)
Launch = Callable[[Sequence[Overrides]], None]


def start(
    config: DictConfig, combinations: Sequence[Overrides], compose: Callable[[Overrides], DictConfig], launch: Launch
) -> None:
    """Run the jobs of `combinations`, or list them where `config.dry` says so; exits where one is not finished."""
    log_to_stderr()
    require_one_process()
    jobs = plan(combinations, compose)
    if config.dry:
        print(dry_table({job.label: job.run for job in jobs}))
        return
    with noting(config.stop_signals):
        status = sweep(jobs, launch)
    if status:
        raise SystemExit(status)


def sweep(jobs: Sequence[Job], launch: Launch) -> int:
    """Let `launch` run those of `jobs` that have no result yet; print the table of all.

    The exit status: 1 where a job failed, 75 where one is not finished otherwise, else 0.
    """
    missing = [job for job in jobs if not finished(job.run)]
    log.info(f"{len(jobs)} jobs, {len(jobs) - len(missing)} of them finished before")
    if missing:
        try:
            with watching(missing):
                launch([job.overrides for job in missing])
        except Exception as error:  # whatever a launcher raises, what is finished is finished
            log.error(f"error: the launcher ended: {explain(error)}")
            report(jobs)
            return 1
    return report(jobs)


def require_one_process() -> None:
    """A sweep that torchrun or srun starts several times would run each job as often."""
    started = os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or "1"
    if int(started) > 1:
        raise ValueError(
            f"a sweep (-m) was started as {started} processes; start it once, without torchrun or srun: each job "
            "starts its own processes"
        )


def report(jobs: Sequence[Job]) -> int:
    """Print the table of what is finished and say why the rest is not; the exit status of the sweep."""
    outcomes = {job: outcome(job.directory) for job in jobs}
    print(text_table([found.result for found in outcomes.values() if found.result]))
    status = 0
    for job, found in outcomes.items():
        if found.state is not State.FINISHED:
            status = 1 if found.state is State.FAILED or status == 1 else STOPPED
            log.info(f"{found.state.value}: {job.label}{found.text and ': '}{found.text} ({job.directory})")
    return status

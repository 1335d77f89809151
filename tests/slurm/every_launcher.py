"""Six jobs through each launcher, and one that is warned; takes minutes: pytest tests/slurm/every_launcher.py."""

from pathlib import Path

import pytest

from tests import processes
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.sweeps import MODELS, SLURM, TINY, check_each_job_once

LOCAL = ["hydra/launcher=submitit_local", "hydra.launcher.array_parallelism=2"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
TWO_PROCESSES = ["trainer=ddp", "trainer.devices=2"]
TWO_NODES = ["trainer=ddp", "trainer.num_nodes=2", "trainer.devices=1"]
LAUNCHERS = {
    "slurm": SLURM,
    "two nodes": [*SLURM, *TWO_NODES],
    "local": LOCAL,
    "local, two processes": [*LOCAL, *TWO_PROCESSES],
    "joblib": JOBLIB,
    "basic, two processes": TWO_PROCESSES,
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_job_runs_once_in_a_directory_of_its_own(cluster: Cluster, tmp_path: Path, launcher: str) -> None:
    command = ["train.py", "-m", f"model={','.join(MODELS)}", "seed=1,2", *TINY, *LAUNCHERS[launcher]]
    done = processes.Command(*command, **cluster.environment, RUN_ROOT=str(tmp_path)).end(timeout=1200)
    check_each_job_once(tmp_path, done, [1, 2])


def test_a_job_that_is_warned_by_submitits_signal_goes_on_and_the_sweep_waits_for_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    long = ["model=resnet20_sic", "seed=1,2", *TINY, "trainer.max_epochs=10"]
    sweep = processes.Command("train.py", "-m", *long, *SLURM, **cluster.environment, RUN_ROOT=str(tmp_path))
    wait_until(lambda: any("epoch 2/10" in path.read_text() for path in tmp_path.glob("*seed1*/log.txt")), "no epoch")
    job = cluster.queue()[0]
    cluster.run("scancel", "--signal=USR2", job)
    cluster.start_again(job, 1)
    done = sweep.end()
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("*seed1*/log.txt")
    assert log.read_text().count("SIGUSR2: saved at step ") == log.read_text().count("resuming at epoch ") == 1
    assert len(list(tmp_path.glob("*/result.json"))) == 2

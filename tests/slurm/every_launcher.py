"""Six jobs through each launcher, distributed ones too; as long as it takes: pytest tests/slurm/every_launcher.py."""

from pathlib import Path

import pytest

from tests import processes
from tests.slurm.cluster import Cluster
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

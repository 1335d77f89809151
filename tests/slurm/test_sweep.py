"""A sweep on a real cluster; every_launcher.py, run by name, has the others and the distributed ones."""

from pathlib import Path

import pytest

from tests import processes
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.sweeps import MODELS, SLURM, TINY, check_each_job_once

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_job_that_is_cancelled_does_not_end_the_sweep_and_is_what_the_same_command_runs(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = ["train.py", "-m", f"model={','.join(MODELS)}", "seed=1", *TINY, *SLURM]
    environment = {**cluster.environment, "RUN_ROOT": str(tmp_path)}
    sweep = processes.Command(*command, **environment)
    wait_until(lambda: len(cluster.queue()) == 3, "there are not three jobs")
    cluster.run("scancel", cluster.queue()[-1])  # it waits for one of the two nodes
    stopped = sweep.end()
    assert stopped.returncode == 75, stopped.stderr
    assert f"not started: model={MODELS[-1]}" in stopped.stderr
    again = processes.run(*command, **environment)
    assert "3 jobs, 2 of them finished before" in again.stderr
    check_each_job_once(tmp_path, again, [1])

"""What may happen to a Slurm job: the run goes on, and ends with the bits of one to which nothing happened."""

import re
from pathlib import Path

import pytest

from tests import processes
from tests.resumption import checkpoint, equal, result
from tests.slurm.cluster import ON_CPUS, Cluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
RUN = ["model.backbone.depth=8", "data.batch_size=128", "trainer.accelerator=cpu"]
RUN += ["trainer.max_epochs=6", "callbacks=ema", "callbacks.ema.decay=0.5"]
EACH_STEP = "callbacks.checkpoint.every_minutes=0"


def steps(run: Path) -> int:
    """How many of them are saved."""
    return checkpoint(run)["global_step"] if (run / "last.ckpt").exists() else 0


def go_on(run: Path, kept: int) -> int:
    """Wait until `run` has gone on from the step that was `kept`; the step that is kept now."""
    wait_until(lambda: steps(run) > kept, f"{run} has not gone on from step {kept}")
    return steps(run)


def test_a_warned_a_cancelled_and_a_lost_job_go_on(cluster: Cluster, tmp_path: Path) -> None:
    run, straight, said = tmp_path / "run", tmp_path / "straight", tmp_path / "said.txt"
    command = [*ON_CPUS, "--nodes=1", f"--output={said}", "scripts/train.sbatch", *RUN, EACH_STEP, f"run_dir={run}"]
    job = cluster.submit(*command)

    seen = go_on(run, 0)
    cluster.run("scancel", "--signal=USR1", job)  # what --signal=USR1@120 sends before the time limit
    cluster.start_again(job, 1)
    saved = re.findall(r"SIGUSR1: saved at step (\d+) ", said.read_text())  # the run may be past it by now
    assert [int(step) >= seen for step in saved] == [True], said.read_text()
    kept = go_on(run, int(saved[0]))

    cluster.run("scancel", job)
    assert cluster.end(job) == "CANCELLED"
    assert cluster.shown(job)["Restarts"] == "1"  # whoever cancels a job wants its end
    assert f"SIGTERM: saved at step {steps(run)} " in said.read_text()
    assert steps(run) >= kept

    job = cluster.submit(*command)
    go_on(run, steps(run))
    cluster.lose(cluster.shown(job)["NodeList"], job)
    kept = steps(run)
    cluster.start_again(job, 1)
    assert cluster.end(job) == "COMPLETED", said.read_text()

    processes.run("train.py", *RUN, "trainer.num_nodes=1", "trainer.devices=1", f"run_dir={straight}", status=0)
    ours, expected = checkpoint(run), checkpoint(straight)
    assert 0 < kept < ours["global_step"] == expected["global_step"]
    for part in ("state_dict", "trained_state_dict", "optimizer_states"):
        assert equal(ours[part], expected[part]), part
    assert result(run) == result(straight)

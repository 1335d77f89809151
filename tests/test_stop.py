"""A signal stops a run between two steps, with exit status 75; the same command then ends with the same bits."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conf.stop import STOPPED
from tests import processes
from tests.conftest import ROOT
from tests.resumption import DIGITS, check_same, checkpoint, finish, train

pytestmark = pytest.mark.slow
SMALL = ["model=resnet20", "model.backbone.depth=8", *DIGITS, "trainer.max_epochs=2"]
SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "1"}


def check_stopped(run_dir: Path, done: processes.Done, signal_name: str, what: str) -> None:
    assert done.returncode == STOPPED, done.stderr
    assert f"{signal_name}: {what}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run_dir / "failed.txt").exists()
    assert not (run_dir / "result.json").exists()


def test_one_process_stops_within_an_epoch_at_its_end_and_before_the_test(tmp_path: Path) -> None:
    """With accumulated gradients, 5 steps an epoch; under Slurm, where Lightning would go on from a file of its own.

    The signals of the second start ask for a requeue, for which there is no Slurm here, and so for a warning.
    """
    options = [*SMALL, "+trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed", "callbacks=ema"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    finish(straight, options)
    stopped.mkdir()
    (stopped / "hpc_ckpt_1.ckpt").write_text("of other code")
    places = [(1, "SIGTERM", 2, "saved at step 2 (epoch 1)"), (4, "SIGUSR1", 5, "saved at step 5 (epoch 1)")]
    places += [("fit", "SIGINT", 10, "trained and saved, not tested")]
    for at, name, step, what in places:
        (done,) = train(stopped, options, at, FAULT=name, **SLURM)
        check_stopped(stopped, done, name, f"{what}; the same command goes on")
        assert checkpoint(stopped)["global_step"] == step
        assert ("scontrol requeue 7: " in done.stderr) == (name == "SIGUSR1")
    assert "epoch 1/2" not in finish(stopped, options, **SLURM)
    check_same(stopped, straight)


def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    finish(straight, SMALL, ranks=2)
    for at, what in ((3, "saved at step 5"), (8, "saved at step 10"), ("test", "trained and saved")):
        first, second = train(stopped, SMALL, at, ranks=2, FAULT="SIGUSR2", FAULT_RANK="1")
        check_stopped(stopped, first, "SIGUSR2", what)
        assert second.returncode == STOPPED, second.stderr
        assert "Traceback" not in second.stderr
    finish(stopped, SMALL, ranks=2)
    check_same(stopped, straight)


def test_processes_that_lightning_started_stop_with_the_first(tmp_path: Path) -> None:
    options = [*SMALL, "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=999"]
    command = [sys.executable, "train.py", *options, f"run_dir={tmp_path / 'run'}"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run" / "last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    check_stopped(tmp_path / "run", processes.Done(process.returncode, "", said), "SIGTERM", "saved at step")

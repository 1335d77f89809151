"""Errors of runs of several processes, which Lightning starts: one message, and nothing goes on."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import ROOT

SMALL = ["model.backbone.depth=8", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
pytestmark = pytest.mark.slow


def train(run_dir: Path, *arguments: str, script: str | Path = "train.py") -> processes.Done:
    """What the first process comes to; the others have ended before it."""
    done = processes.run(script, *SMALL, *arguments, f"run_dir={run_dir}")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended just now
            assert str(run_dir).encode() not in path.read_bytes()
    return done


def test_a_batch_that_cannot_be_shared_is_refused_before_processes_start(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "trainer.devices=9")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "error: data.batch_size=64 must be a multiple of the 9 processes; nearest: 63\n" in done.stderr
    assert not (tmp_path / "run").exists()


PATIENT = """
import sys
sys.path.insert(0, {root!r})
from callbacks import one_error
from conf.launch import launch
from models.training.classifier import Classifier
from train import main

def step(self, batch, batch_idx):
    if self.trainer.global_rank == 1:
        raise ValueError("the second process fails")
    return usual(self, batch, batch_idx)

# Whatever else the machine has to do: the second process speaks soon only where it alone fails.
one_error.ENDING, one_error.PATIENCE = 120.0, {patience}
usual = Classifier.training_step
if {only_the_second}:
    Classifier.training_step = step
launch(main, "train")
"""


ALL_FAIL = [
    (["data.num_classes=7"], "data.num_classes=7, but the labels run from 0 to 9"),
    (["optimizer.lr=1e30"], "lower optimizer.lr"),
]


@pytest.mark.parametrize(("arguments", "message"), ALL_FAIL, ids=[arguments[0] for arguments, _ in ALL_FAIL])
def test_an_error_of_all_processes_is_told_once(tmp_path: Path, arguments: list[str], message: str) -> None:
    script = tmp_path / "fail.py"
    script.write_text(PATIENT.format(root=str(ROOT), patience=120.0, only_the_second=False))
    done = train(tmp_path / "run", *TWO, *arguments, script=script)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_one_process_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text(PATIENT.format(root=str(ROOT), patience=1.0, only_the_second=True))
    done = train(tmp_path / "run", *TWO, script=script)
    assert done.returncode != 0
    assert done.stderr.count("error: the second process fails") == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_is_killed_ends_all(tmp_path: Path) -> None:
    """It cannot say why; Lightning's own observer would have killed the first process, which does."""
    script = tmp_path / "killed.py"
    killed = 'raise ValueError("the second process fails")', "import os; os.kill(os.getpid(), 9)"
    script.write_text(PATIENT.format(root=str(ROOT), patience=120.0, only_the_second=True).replace(*killed))
    done = train(tmp_path / "run", *TWO, script=script)
    assert done.returncode == 1
    assert "error: process 1 was killed by SIGKILL; the same command goes on from the last checkpoint" in done.stderr
    assert "process 1 was killed" in (tmp_path / "run" / "failed.txt").read_text()
    assert "Traceback" not in done.stderr

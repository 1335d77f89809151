"""Errors of runs of several processes, which Lightning starts: one message, and nothing goes on."""

from pathlib import Path

import pytest

from tests import processes
from tests.conftest import ROOT

SMALL = ["model.backbone.depth=8", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]


def train(run_dir: Path, *arguments: str, script: str | Path = "train.py") -> processes.Done:
    return processes.run(script, *SMALL, *arguments, f"run_dir={run_dir}")


def test_a_batch_that_cannot_be_shared_is_refused_before_processes_start(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "trainer.devices=9")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "error: data.batch_size=64 must be a multiple of the 9 processes; nearest: 63\n" in done.stderr
    assert not (tmp_path / "run").exists()


ALL_FAIL = [
    (["data.num_classes=7"], "data.num_classes=7, but the labels run from 0 to 9"),
    (["optimizer.lr=1e30"], "lower optimizer.lr"),
]


@pytest.mark.parametrize(("arguments", "message"), ALL_FAIL, ids=[arguments[0] for arguments, _ in ALL_FAIL])
def test_an_error_of_all_processes_is_told_once(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = train(tmp_path / "run", *TWO, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


ONLY_THE_SECOND = """
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

one_error.PATIENCE = 1.0
usual, Classifier.training_step = Classifier.training_step, step
launch(main, "train")
"""


def test_an_error_of_one_process_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text(ONLY_THE_SECOND.format(root=str(ROOT)))
    done = train(tmp_path / "run", *TWO, script=script)
    assert done.returncode != 0
    assert done.stderr.count("error: the second process fails") == 1, done.stderr
    assert "Traceback" not in done.stderr

"""A finished run is moved to another folder and given more epochs: as if it had been started with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
SMALL = ["model=resnet20", "model.backbone.depth=8", "trainer.accelerator=cpu"]
STEPWISE = ["scheduler=multistep", "scheduler.milestones=[0.5]"]  # a schedule that does not depend on the end


def train(run_dir: Path, epochs: int) -> subprocess.CompletedProcess:
    arguments = [*SMALL, *STEPWISE, f"trainer.max_epochs={epochs}", f"run_dir={run_dir}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_a_moved_run_goes_on_for_more_epochs_to_the_same_weights(tmp_path: Path) -> None:
    train(tmp_path / "straight", 2)
    train(tmp_path / "first", 1)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert "is finished" in train(tmp_path / "moved", 1).stdout
    longer = train(tmp_path / "moved", 2)
    assert "moved has 2 epochs now, 1 before" in longer.stderr
    assert "epoch 1/" not in longer.stderr
    assert "arning" not in longer.stderr
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("straight", "moved")]
    straight, moved = (state["state_dict"] for state in states)
    assert all(torch.equal(moved[name], weights) for name, weights in straight.items())
    record = json.loads((tmp_path / "moved" / "result.json").read_text())
    assert (record["epochs"], record["extended_from"]) == (2, [1])
    assert record["top1"] == json.loads((tmp_path / "straight" / "result.json").read_text())["top1"]
    assert json.loads((tmp_path / "moved" / "result_1_epochs.json").read_text())["epochs"] == 1

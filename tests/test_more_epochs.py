"""A finished run is moved to another folder and given more epochs: as if it had been started with them."""

import json
from pathlib import Path

import pytest
import torch

from tests import processes
from tests.conftest import GATED, FinishedRun

pytestmark = pytest.mark.slow


def train(run_dir: Path, epochs: int) -> processes.Done:
    return processes.run("train.py", *GATED, f"trainer.max_epochs={epochs}", f"run_dir={run_dir}", status=0)


def test_a_moved_run_goes_on_for_more_epochs_to_the_same_weights(finished_run: FinishedRun, tmp_path: Path) -> None:
    train(tmp_path / "first", 1)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert "is finished" in train(tmp_path / "moved", 1).stdout
    longer = train(tmp_path / "moved", 2)
    assert "moved has 2 epochs now, 1 before" in longer.stderr
    assert "epoch 1/" not in longer.stderr
    assert "arning" not in longer.stderr
    folders = finished_run.directory, tmp_path / "moved"
    straight, moved = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in folders)
    assert all(torch.equal(moved[name], weights) for name, weights in straight.items())
    expected, record = (json.loads((folder / "result.json").read_text()) for folder in folders)
    assert (record["epochs"], record["extended_from"]) == (2, [1])
    assert record["top1"] == expected["top1"]
    assert json.loads((tmp_path / "moved" / "result_1_epochs.json").read_text())["epochs"] == 1

"""Runs that learn from a teacher: real processes, which are killed and go on."""

import json
from pathlib import Path

import pytest
import torch

from models.load import load_run
from models.teacher import fingerprint
from tests import processes
from tests.conftest import FinishedRun
from tests.resumption import DIGITS, check_same, checkpoint, finish, result, rows, train

pytestmark = pytest.mark.slow
STUDENT = [*DIGITS, "model/backbone=z2_resnet44", "model.backbone.depth=8", "model.backbone.widths=[8,16,24]"]
STUDENT += ["trainer.max_epochs=1"]


def test_two_processes_that_are_killed_go_on_to_the_same_bits(finished_run: FinishedRun, tmp_path: Path) -> None:
    """With features, averaged weights and mixed images, killed within the epoch."""
    teacher, straight, killed = finished_run.directory, tmp_path / "straight", tmp_path / "killed"
    options = [*STUDENT, f"teacher={teacher}", "callbacks=ema", "callbacks.ema.decay=0.5", "data.mixup=0.2"]
    options += ["distillation.features=0.5"]
    before = (teacher / "last.ckpt").read_bytes()
    said = finish(straight, options, ranks=2)
    train(killed, [*options, "callbacks.checkpoint.every_minutes=0"], at=5, ranks=2)
    assert checkpoint(killed)["global_step"] == 5
    finish(killed, options, ranks=2)
    state = check_same(killed, straight)
    assert (teacher / "last.ckpt").read_bytes() == before
    assert state["state_dict"].keys() == {f"net.{name}" for name in load_run(straight).net.state_dict()}
    assert [list(state["regressors"][f"{size}.weight"].shape) for size in (16, 8, 4)] == [
        [16, 8, 1, 1],
        [32, 16, 1, 1],
        [64, 24, 1, 1],
    ]
    record, told = (json.loads((run / "result.json").read_text()) for run in (straight, killed))
    weights = fingerprint(load_run(teacher).net)
    right = result(teacher)["val_top1"]
    assert record["teacher"] == {"source": str(teacher), "weights_sha256": weights, "val_top1": right}
    assert told["teacher"] == record["teacher"]
    assert said.count(f"teacher {teacher}: {right:.2f} % of the validation images right") == 1
    assert sum("train/distillation" in row and "train/features" in row for row in rows(straight)) == 1


def test_it_does_not_go_on_with_another_teacher_nor_start_with_one_of_other_images(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    teacher.mkdir()
    for name in ("result.json", "last.ckpt"):
        (teacher / name).write_bytes((finished_run.directory / name).read_bytes())
    options = ["trainer.accelerator=cpu", f"teacher={teacher}", f"run_dir={run}"]
    refused = processes.run("train.py", *STUDENT, *options, "data.input_size=8", status=1)
    assert (
        f"error: teacher={teacher} was trained with data.input_size=16, and this run has data.input_size=8; train on"
        in (refused.stderr)
    )
    assert not run.exists()
    train(run, [*STUDENT, f"teacher={teacher}", "callbacks.checkpoint.every_minutes=0"], at=2)
    state = checkpoint(teacher)
    state["state_dict"]["net.conv.weight"] += 1
    torch.save(state, teacher / "last.ckpt")
    refused = processes.run("train.py", *STUDENT, *options, status=1)
    assert f"teacher={teacher} has other weights than when this run began; put the earlier ones back" in refused.stderr
    assert "Traceback" not in refused.stderr

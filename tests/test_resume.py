"""Killing a run anywhere and starting the same command again changes nothing: real processes, SIGKILL, equal bits."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.benchmarks.photographs import write_photographs
from tests import processes
from tests.resumption import DIGITS, check_same, checkpoint, finish, generators, rows, train

pytestmark = pytest.mark.slow


def check_resume(
    tmp_path: Path, arguments: list[str], places: dict[int | str, int], ranks: int = 1
) -> tuple[dict[str, Any], str]:
    """A straight run against one that is killed at each of `places` in turn and goes on from the step that it maps to.

    Where that is the place itself, each step is kept; else the ends of epochs. Returns the checkpoint of the straight
    run and what the last start of the other one says.
    """
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(straight, arguments, ranks)
    for place, kept in places.items():
        often = ["callbacks.checkpoint.every_minutes=0"] if place == kept else []
        assert train(killed, [*arguments, *often], place, ranks)[0].returncode == -signal.SIGKILL
        assert checkpoint(killed)["global_step"] == kept
        assert not (killed / "result.json").exists()
    said = finish(killed, arguments, ranks)
    return check_same(killed, straight), said


EMA = ["callbacks=ema", "callbacks.ema.decay=0.5", "trainer.max_epochs=2"]


def check_averaged(state: dict[str, Any]) -> None:
    """The averaged network is judged, not the trained one."""
    averaged, trained = state["state_dict"], state["trained_state_dict"]
    assert not any(torch.equal(averaged[name], trained[name]) for name in averaged if name.endswith("weight"))


def test_one_process_with_averaged_weights_and_accumulated_half_precision_gradients(tmp_path: Path) -> None:
    """Killed in either epoch, between fit and test, and in the test; 5 steps an epoch."""
    options = [*EMA, "model=resnet20", "model.backbone.depth=8", *DIGITS]
    options += ["trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=2"]
    state, said = check_resume(tmp_path, options, {6: 5, 9: 9, "fit": 10, "test": 10})
    check_averaged(state)
    assert "epoch 1/2" not in said


def test_two_processes_with_averaged_weights_dropout_and_workers(tmp_path: Path) -> None:
    """Shards, read by two workers in each process, which drops its own units; killed everywhere; 5 steps an epoch."""
    write_photographs(tmp_path / "photographs", 66, 31, (64, 48))
    made = [f"root={tmp_path / 'photographs'}", f"out={tmp_path / 'shards'}", "images_per_shard=20"]
    processes.run("scripts/make_shards.py", *made, status=0)
    options = [
        *EMA,
        "model=resnet20",
        "model/backbone=wrn28_10",
        "model.backbone.depth=10",
        "model.backbone.dropout=0.3",
    ]
    options += ["model.backbone.widen_factor=1", "data=imagenet_shards", f"data.root={tmp_path / 'shards'}"]
    options += ["data.num_classes=6", "data.input_size=32", "data.batch_size=12", "data.num_workers=2"]
    options += ["data.randaugment=9", "data.erasing=0.25", "data.cutmix=1.0", "+trainer.check_val_every_n_epoch=2"]
    state, _ = check_resume(tmp_path, options, {6: 5, 9: 9, "fit": 10, "test": 10}, ranks=2)
    check_averaged(state)
    first, second = generators(state)
    assert not torch.equal(first, second)


def test_a_compiled_network_with_changed_images(tmp_path: Path) -> None:
    """torch.compile traces it; its graphs run with the kernels of eager mode (tests/train_faulty.py)."""
    options = [*EMA, "compile=true", "model=resnet20", "model.backbone.depth=8", *DIGITS, "trainer.max_epochs=1"]
    changed = ["data.cutout=4", "data.mixup=0.2", "data.flip=alternating"]
    changed += ["+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"]  # another size is another graph
    state, said = check_resume(tmp_path, [*options, *changed], {6: 6})
    check_averaged(state)
    assert "compiled a graph" in said


def test_limits_of_batches_and_steps(tmp_path: Path) -> None:
    """7 of 10 batches an epoch in 3 steps, validated every 3; the run ends within its third epoch.

    Killed within the second epoch, where every step is kept, and after its end.
    """
    limits = ["+trainer.limit_train_batches=7", "+trainer.val_check_interval=3", "+trainer.max_steps=8"]
    limits += ["+trainer.accumulate_grad_batches=3", "trainer.max_epochs=-1", "+trainer.limit_val_batches=1"]
    often = ["callbacks.checkpoint.every_minutes=0", "trainer.log_every_n_steps=1"]
    gates = ["model=resnet20_lccl", "model.backbone.depth=8", "gate_penalty.l1=0.01"]
    state, _ = check_resume(tmp_path, [*gates, *DIGITS, *limits, *often], {5: 5, 6: 6})
    assert state["global_step"] == 8
    within_second_epoch = [row for row in rows(tmp_path / "killed") if "train/gate_penalty" in row][1]
    assert within_second_epoch["step"] == "5"


def test_the_end_of_an_epoch_where_batches_and_steps_are_limited(tmp_path: Path) -> None:
    """What is kept is the end of the first epoch; the run ends within the third."""
    limits = ["+trainer.limit_train_batches=4", "+trainer.max_steps=9", "trainer.max_epochs=3"]
    options = ["model=resnet20", "model.backbone.depth=8", *DIGITS, *limits]
    state, _ = check_resume(tmp_path, options, {5: 4})
    assert state["global_step"] == 9

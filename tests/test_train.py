"""python train.py as a user runs it: real processes on the real digits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT

SMALL = ["model.backbone.depth=8", "trainer.accelerator=cpu"]
CLOCK = ("train_images_per_second", "wall_seconds")  # what differs between two equal runs
pytestmark = pytest.mark.slow


def command(*arguments: str) -> list[str]:
    return [sys.executable, "train.py", *arguments, *SMALL]


def train(*arguments: str, status: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def result(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


def numbers(run_dir: Path) -> dict[str, Any]:
    return {key: value for key, value in result(run_dir).items() if key not in (*CLOCK, "config")}


def test_the_same_command_gives_the_same_numbers_and_says_what_it_did(tmp_path: Path) -> None:
    first = train("trainer.max_epochs=2", f"run_dir={tmp_path / 'first'}")
    train("trainer.max_epochs=2", f"run_dir={tmp_path / 'second'}")
    assert numbers(tmp_path / "first") == numbers(tmp_path / "second")
    assert "6 of 7 convolutions replaced; kept: 1 (stem)" in first.stderr
    assert "epoch 2/2  loss" in first.stderr
    assert "it/s" not in first.stderr  # no progress bar where nobody watches
    assert "Warning" not in first.stderr
    rows = [line.split() for line in first.stdout.splitlines()]
    assert rows[1][0] == "baseline"
    assert rows[2][:2] == ["resnet20_sic_backbone.depth8", f"{result(tmp_path / 'first')['params']:,}"]

    again = train("trainer.max_epochs=2", f"run_dir={tmp_path / 'first'}")
    assert "is finished" in again.stdout
    assert not again.stderr
    other = train("trainer.max_epochs=2", "seed=2", f"run_dir={tmp_path / 'first'}", status=1)
    assert "error: " in other.stderr
    assert "holds a run with another configuration" in other.stderr


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    train("trainer.max_epochs=4", f"run_dir={tmp_path / 'straight'}")
    arguments = command("trainer.max_epochs=4", f"run_dir={tmp_path / 'killed'}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2/4"):
                process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = train("trainer.max_epochs=4", f"run_dir={tmp_path / 'killed'}")
    assert "epoch 1/4" not in resumed.stderr
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "straight")


def test_gates_are_counted_over_every_test_image_and_shown(tmp_path: Path) -> None:
    train("model/layer=lccl", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}")
    record = result(tmp_path / "run")
    assert (record["model"], record["layer"], record["scope"]) == (
        "resnet20_lccl_backbone.depth8",
        "lccl",
        "spatial",
    )
    assert record["macs_effective_images"] == 360
    assert record["macs_effective"] < record["macs"]
    assert len(record["gate_sparsity"]) == 6
    assert all(0 <= zero <= 1 for zero in record["gate_sparsity"].values())
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"gate_sparsity_by_layer", "accuracy_against_macs"} <= set(events.Tags()["images"])
    assert {"train/loss", "val/top1", "test/top1", "cost/macs"} <= set(events.Tags()["scalars"])


def test_two_processes_count_each_test_image_once(tmp_path: Path) -> None:
    options = ["model/layer=lccl", "trainer.max_epochs=1", "trainer.devices=2", "trainer.strategy=ddp"]
    options += ["gate_penalty.l1=0.01", "data.val_fraction=0.0007"]  # one image, for one of the two
    done = train(*options, f"run_dir={tmp_path / 'run'}")
    record = result(tmp_path / "run")
    assert record["val_top1"] in (0, 100)
    assert record["macs_effective_images"] == 360
    assert record["top1"] * 3.6 == pytest.approx(round(record["top1"] * 3.6))  # a whole number of 360 images
    assert done.stderr.count("epoch 1/1  loss") == 1


def test_precision_and_averaged_weights_are_options(tmp_path: Path) -> None:
    """Both are seen in the numbers; the averaged network is what is tested, and it has learnt something."""
    options = ["scheduler=multistep", "scheduler.milestones=[1]", "trainer.max_epochs=2", "label_smoothing=0.1"]
    train(*options, f"run_dir={tmp_path / 'plain'}")
    train(*options, "trainer.precision=bf16-mixed", "callbacks=ema", f"run_dir={tmp_path / 'run'}")
    plain, state = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("plain", "run"))
    parts = state["state_dict"], state["trained_state_dict"], plain["state_dict"]
    averaged, trained, exact = (part["net.conv.weight"] for part in parts)
    assert not torch.equal(trained, averaged)
    assert not torch.equal(trained, exact)  # bfloat16 rounds
    assert result(tmp_path / "run")["top1"] > 30


FAILURES = [
    (["data=cifar10", "data.root=/no/such/folder"], "no folder /no/such/folder; expected in data.root"),
    (["data.num_classes=7"], "data.num_classes=7, but the labels run from 0 to 9"),
    (["run_dir=/proc/run"], "cannot write to run_dir /proc/run"),
    (["optimizer.lr=1e30"], "lower optimizer.lr"),
    (["gate_penalty.l1=0.1"], "gate_penalty.l1=0.1: this network has no gates"),
    (["+model.layer.dept=2"], "model.layer.dept: SIC takes no such argument; did you mean depth?"),
    (["scheduler=multistep"], "the last must come before the end, epoch 40"),
]


@pytest.mark.parametrize(("arguments", "message"), FAILURES, ids=[arguments[0] for arguments, _ in FAILURES])
def test_a_failure_is_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    where = [] if arguments[0].startswith("run_dir") else [f"run_dir={tmp_path / 'run'}"]
    done = train(*arguments, *where, status=1)
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_diverging_run_keeps_its_finished_epochs(tmp_path: Path) -> None:
    options = ["scheduler=multistep", "scheduler.milestones=[1]", "scheduler.gamma=1e12", "trainer.max_epochs=2"]
    done = train(*options, "callbacks.checkpoint.every_steps=1", f"run_dir={tmp_path / 'run'}", status=1)
    assert "in epoch 2, step 2" in done.stderr
    assert "finished epochs are kept in run_dir/last.ckpt" in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert kept["global_step"] >= 20
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())


def test_a_sweep_is_one_run_a_directory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RUN_ROOT", str(tmp_path))
    done = train("-m", "model=resnet20,resnet20_sic", "trainer.max_epochs=1")
    records = [result(path.parent) for path in tmp_path.glob("*/result.json")]
    assert {record["layer"] for record in records} == {"conv", "sic"}
    # The second run finds its trained baseline beside it.
    assert "baseline not trained" not in done.stdout.split("result:")[1]


def test_a_trial_run_records_nothing(tmp_path: Path) -> None:
    done = train("trainer.fast_dev_run=true", f"run_dir={tmp_path / 'run'}")
    assert "trainer.fast_dev_run: everything was tried, nothing is recorded" in done.stderr
    assert "result:" not in done.stdout
    assert not (tmp_path / "run").exists()

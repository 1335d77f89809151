"""python train.py as a user runs it: real processes on the real digits."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import processes
from tests.conftest import GATED, FinishedRun

SMALL = ["model.backbone.depth=8", "trainer.accelerator=cpu"]
CLOCK = ("train_images_per_second", "wall_seconds")  # what differs between two equal runs
pytestmark = pytest.mark.slow


def train(*arguments: str, status: int = 0) -> processes.Done:
    return processes.run("train.py", *SMALL, *arguments, status=status)


def result(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


def numbers(run_dir: Path) -> dict[str, Any]:
    return {key: value for key, value in result(run_dir).items() if key not in (*CLOCK, "config")}


def test_it_says_what_it_did(finished_run: FinishedRun) -> None:
    said, record = finished_run.stderr, result(finished_run.directory)
    assert "6 of 7 convolutions replaced; kept: 1 (stem)" in said
    assert "epoch 2/2  loss" in said
    assert "it/s" not in said  # no progress bar where nobody watches
    assert "Warning" not in said
    rows = [line.split() for line in finished_run.stdout.splitlines()]
    assert rows[1][0] == "baseline"
    assert rows[2][:2] == ["resnet20_lccl_backbone.depth8", f"{record['params']:,}"]
    assert rows[3][:3] == ["closed", "gates", "skipped"]


def test_the_same_command_elsewhere_gives_the_same_numbers(finished_run: FinishedRun, tmp_path: Path) -> None:
    """Also in another process, where Python hashes words otherwise."""
    processes.run("train.py", *GATED, f"run_dir={tmp_path / 'again'}", status=0)
    assert numbers(tmp_path / "again") == numbers(finished_run.directory)


def test_the_result_says_how_to_get_it_again(finished_run: FinishedRun) -> None:
    record = result(finished_run.directory)
    assert shlex.split(record["command"]) == ["python", "train.py", *GATED]  # without the run directory
    assert f": {record['machine']}\n" in Path("/proc/cpuinfo").read_text()


def test_a_finished_run_is_shown_and_its_directory_is_no_other_ones(finished_run: FinishedRun) -> None:
    again = processes.run("train.py", *GATED, f"run_dir={finished_run.directory}", status=0)
    assert "is finished" in again.stdout
    assert not again.stderr
    other = processes.run("train.py", *GATED, "seed=2", f"run_dir={finished_run.directory}", status=1)
    assert "error: " in other.stderr
    assert "holds a run with another configuration" in other.stderr


def test_gates_are_counted_over_every_test_image_and_shown(finished_run: FinishedRun) -> None:
    record = result(finished_run.directory)
    names = ("resnet20_lccl_backbone.depth8", "lccl", "spatial")
    assert (record["model"], record["layer"], record["scope"]) == names
    assert record["macs_effective_images"] == record["test_images"] == 360
    assert record["macs_effective"] < record["macs"]
    assert len(record["gate_sparsity"]) == 6
    assert all(0 <= zero <= 1 for zero in record["gate_sparsity"].values())
    events = EventAccumulator(str(finished_run.directory / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {
        "Accuracy against MACs",
        "Gates/closed in each layer",
        "Gates/closed while training",
        "Gates/where they let layers compute",
    }
    assert {"train/loss", "val/top1", "test/top1"} <= set(events.Tags()["scalars"])


def test_the_network_is_trained_channels_last(finished_run: FinishedRun) -> None:
    weights = torch.load(finished_run.directory / "last.ckpt", weights_only=True)["state_dict"].values()
    convs = [tensor for tensor in weights if tensor.ndim == 4 and tensor.shape[1] > 1 and tensor.shape[2] > 1]
    assert convs
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in convs)


def test_two_processes_count_each_test_image_once(tmp_path: Path) -> None:
    """Lightning starts the second one."""
    options = ["model/layer=lccl", "trainer.max_epochs=1", "trainer.devices=2", "trainer.strategy=ddp"]
    options += ["gate_penalty.l1=0.01", "data.val_fraction=0.0007"]  # one image, for one of the two
    done = train(*options, f"run_dir={tmp_path / 'run'}")
    record = result(tmp_path / "run")
    assert record["val_top1"] in (0, 100)
    assert record["macs_effective_images"] == record["test_images"] == 360
    assert record["top1"] * 3.6 == pytest.approx(round(record["top1"] * 3.6))  # a whole number of 360 images
    assert done.stderr.count("epoch 1/1") == 1


def test_precision_and_averaged_weights_are_options(finished_run: FinishedRun, tmp_path: Path) -> None:
    """Both are seen in the numbers; the averaged network is what is tested, and it has learnt something."""
    options = ["trainer.precision=bf16-mixed", "callbacks=ema", f"run_dir={tmp_path / 'run'}"]
    processes.run("train.py", *GATED, *options, status=0)
    plain, state = (
        torch.load(run_dir / "last.ckpt", weights_only=True) for run_dir in (finished_run.directory, tmp_path / "run")
    )
    parts = state["state_dict"], state["trained_state_dict"], plain["state_dict"]
    averaged, trained, exact = (part["net.conv.weight"] for part in parts)
    assert not torch.equal(trained, averaged)
    assert not torch.equal(trained, exact)  # bfloat16 rounds
    assert result(tmp_path / "run")["top1"] > 20


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
    assert done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_diverging_run_keeps_its_finished_epochs(tmp_path: Path) -> None:
    options = ["scheduler=multistep", "scheduler.milestones=[1]", "scheduler.gamma=1e12", "trainer.max_epochs=2"]
    options += ["data.batch_size=128", "callbacks.checkpoint.every_minutes=0"]
    done = train(*options, f"run_dir={tmp_path / 'run'}", status=1)
    assert "in epoch 2, step 1" in done.stderr
    assert "finished epochs are kept in run_dir/last.ckpt" in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    assert "lower optimizer.lr" in (tmp_path / "run" / "failed.txt").read_text()
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert kept["global_step"] >= 10
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())


def test_a_trial_run_records_nothing(tmp_path: Path) -> None:
    """On a cluster's login node, where Lightning would recommend srun."""
    (tmp_path / "srun").touch(0o755)
    command = [*SMALL, "trainer.fast_dev_run=true", f"run_dir={tmp_path / 'run'}"]
    done = processes.run("train.py", *command, status=0, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "srun" not in done.stderr
    assert "trainer.fast_dev_run: everything was tried, nothing is recorded" in done.stderr
    assert "result:" not in done.stdout
    assert not (tmp_path / "run").exists()

"""One process and two train the same network to the same numbers, also where a run changes between them.

In double precision where there is BatchNorm: in single precision its rounding grows tenfold a step at first, as it
also does between two memory formats of one process.
"""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from models.load import load_run
from tests import processes

pytestmark = pytest.mark.slow
# 10 batches of 32 images, or of 2 x 16, are 5 steps, as gradients accumulate; 20 steps in all.
COMMON = ["trainer.accelerator=cpu", "data=digits", "data.batch_size=32", "trainer.log_every_n_steps=1"]
COMMON += ["trainer.max_epochs=4", "trainer.limit_train_batches=10"]
COMMON += ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1"]
# Gates that are fitted to the first batch, and penalised.
GATED = ["model=resnet20_lccl", "model.backbone.depth=8", "gate_penalty.l1=0.01", "trainer.sync_batchnorm=true"]
DOUBLE = [*GATED, "trainer.precision=64-true"]
NO_BATCHNORM = ["model=resnet20", "model/backbone=timm", "model.backbone.name=test_convnext2", "data.input_size=16"]
NO_BATCHNORM += ["optimizer.lr=0.005", "lr_batch_size=32"]
EVALUATED = ("top1", "top5", "val_top1", "macs_effective", "macs_effective_std", "gate_sparsity")


def train(run_dir: Path, how: str, *arguments: str, kill_at: int | str = "never") -> processes.Done:
    """With one process, or with two of `how`, a choice of conf/trainer."""
    options, environment = [*COMMON, *arguments, f"run_dir={run_dir}"], {"FAULT_AT": str(kill_at)}
    if how == "one":
        return processes.run("tests/train_faulty.py", *options, **environment)
    several = [f"trainer={how}", "trainer.devices=2"]
    return processes.run_ranks(2, "tests/train_faulty.py", *several, *options, **environment)[0]


def finish(run_dir: Path, how: str, *arguments: str) -> str:
    """What it says until its end."""
    done = train(run_dir, how, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stderr


def losses(run_dir: Path) -> dict[int, float]:
    """The loss of each step, over all of its images."""
    found = {}
    for file in run_dir.glob("csv/*/metrics.csv"):
        with file.open() as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("train/loss_step")]
        found |= {int(row["step"]): float(row["train/loss_step"]) for row in rows}
    return found


def result(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


def check_equal(run_dir: Path, expected: Path, tolerance: float, of_weights: float) -> None:
    """The loss of 20 steps within `tolerance`, the weights within `of_weights`, and whatever is evaluated."""
    assert losses(run_dir) == pytest.approx(losses(expected), abs=tolerance)
    assert len(losses(run_dir)) == 20
    ours, theirs = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (run_dir, expected))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=0, atol=of_weights)
    results = result(run_dir), result(expected)
    assert {key: results[0][key] for key in EVALUATED} == {key: results[1][key] for key in EVALUATED}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In double precision, by one process."""
    run_dir = tmp_path_factory.mktemp("gated") / "run"
    finish(run_dir, "one", *DOUBLE)
    return run_dir


@pytest.fixture(scope="module")
def no_batchnorm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In single precision, by one process; the rate is meant for half of the images of a step."""
    run_dir = tmp_path_factory.mktemp("no_batchnorm") / "run"
    said = finish(run_dir, "one", *NO_BATCHNORM)
    assert said.count("optimizer.lr 0.005 is for steps of 32 images (lr_batch_size); 0.01 for 64") == 1
    return run_dir


def test_two_train_a_gated_network_as_one_does(tmp_path: Path, gated: Path) -> None:
    finish(tmp_path, "ddp", *DOUBLE)
    check_equal(tmp_path, gated, 1e-6, 1e-7)


def test_two_train_a_network_without_batchnorm_as_one_does_in_single_precision(
    tmp_path: Path, no_batchnorm: Path
) -> None:
    finish(tmp_path, "ddp", *NO_BATCHNORM)
    check_equal(tmp_path, no_batchnorm, 1e-5, 1e-5)


def test_a_run_goes_on_with_two_processes_and_then_with_one(tmp_path: Path, gated: Path) -> None:
    """Killed in the second epoch and in the third: from the end of the epoch before, the same as one that was not."""
    for how, step in (("one", 6), ("ddp", 11)):
        assert train(tmp_path, how, *DOUBLE, kill_at=step).returncode == -signal.SIGKILL
    said = finish(tmp_path, "one", *DOUBLE)
    assert "processes: 1 now, 2 before; each step has the same images" in said
    assert result(tmp_path)["processes"] == [1, 2, 1]
    check_equal(tmp_path, gated, 1e-6, 1e-7)


def test_weights_that_are_shared_out_go_on_whole_and_shared_out_again(tmp_path: Path, no_batchnorm: Path) -> None:
    for how, step in (("fsdp", 6), ("one", 11)):
        assert train(tmp_path, how, *NO_BATCHNORM, kill_at=step).returncode == -signal.SIGKILL
    finish(tmp_path, "fsdp", *NO_BATCHNORM)
    check_equal(tmp_path, no_batchnorm, 1e-5, 1e-5)


def test_a_gated_network_that_is_shared_out_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """And starts with the gates that any other has; its checkpoint is one file with everything."""
    straight, killed, whole = (tmp_path / name for name in ("straight", "killed", "whole"))
    finish(straight, "fsdp", *GATED)
    assert train(killed, "fsdp", *GATED, kill_at=6).returncode == -signal.SIGKILL
    finish(killed, "fsdp", *GATED)
    check_equal(killed, straight, 0, 0)
    train(whole, "ddp", *GATED, kill_at=6)
    first, expected = ([losses(run_dir)[step] for step in (1, 2, 3)] for run_dir in (straight, whole))
    assert first == pytest.approx(expected, abs=1e-4)
    assert load_run(straight).net


def test_averaged_weights_are_not_kept_of_weights_that_are_shared_out(tmp_path: Path) -> None:
    done = train(tmp_path, "fsdp", *GATED, "callbacks=ema")
    assert done.returncode == 1
    assert "callbacks=ema keeps no average of weights that are shared out; choose trainer=ddp" in done.stderr

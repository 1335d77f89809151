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

from tests import processes

pytestmark = pytest.mark.slow
COMMON = ["trainer.accelerator=cpu", "data=digits", "data.batch_size=128", "trainer.log_every_n_steps=1"]
# 10 batches and 5 steps an epoch, 20 steps in all; gates that are fitted to the first batch.
GATED = ["model=resnet20_lccl", "model.backbone.depth=8", "gate_penalty.l1=0.01", "trainer.max_epochs=4"]
GATED += ["trainer.sync_batchnorm=true", "trainer.precision=64-true"]
STEPS = ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1"]
EVALUATED = ("top1", "top5", "val_top1", "macs_effective", "macs_effective_std", "gate_sparsity")


def train(run_dir: Path, ranks: int, *arguments: str, kill_at: int | str = "never") -> processes.Done:
    options = [*COMMON, *arguments, f"run_dir={run_dir}"]
    environment = {"KILL_AT": str(kill_at)}
    if ranks == 1:
        return processes.run("tests/train_killed.py", *options, **environment)
    several = ["trainer=ddp", f"trainer.devices={ranks}"]
    return processes.run_ranks(ranks, "tests/train_killed.py", *several, *options, **environment)[0]


def finish(run_dir: Path, ranks: int, *arguments: str) -> str:
    """What it says until its end."""
    done = train(run_dir, ranks, *arguments)
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


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "last.ckpt", weights_only=True)["state_dict"]


def check_equal(run_dir: Path, expected: Path, tolerance: float) -> None:
    """The loss of 20 steps, and whatever is evaluated."""
    assert losses(run_dir) == pytest.approx(losses(expected), abs=tolerance)
    assert len(losses(run_dir)) == 20
    ours, theirs = result(run_dir), result(expected)
    assert {key: ours[key] for key in EVALUATED} == {key: theirs[key] for key in EVALUATED}


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    finish(run_dir, 1, *GATED, *STEPS)
    return run_dir


def test_two_train_a_gated_network_as_one_does(tmp_path: Path, one_process: Path) -> None:
    finish(tmp_path, 2, *GATED, *STEPS)
    check_equal(tmp_path, one_process, 1e-6)
    for name, expected in weights(one_process).items():
        torch.testing.assert_close(weights(tmp_path)[name], expected, rtol=0, atol=1e-9)


def test_two_train_a_network_without_batchnorm_as_one_does_in_single_precision(tmp_path: Path) -> None:
    """The rate is meant for half of the images of a step."""
    network = ["model=resnet20", "model/backbone=timm", "model.backbone.name=test_convnext2", "data.input_size=32"]
    options = [*network, *STEPS, "data.batch_size=16", "trainer.limit_train_batches=10", "trainer.max_epochs=4"]
    options += ["optimizer.lr=0.005", "lr_batch_size=16"]
    said = [finish(tmp_path / str(ranks), ranks, *options) for ranks in (1, 2)]
    for text in said:
        assert text.count("optimizer.lr 0.005 is for steps of 16 images (lr_batch_size); 0.01 for 32") == 1
    check_equal(tmp_path / "2", tmp_path / "1", 1e-5)


def test_a_run_goes_on_with_two_processes_and_then_with_one(tmp_path: Path, one_process: Path) -> None:
    """Killed in the second epoch and in the third: from the end of the epoch before, the same as one that was not."""
    for ranks, step in ((1, 6), (2, 11)):
        assert train(tmp_path, ranks, *GATED, *STEPS, kill_at=step).returncode == -signal.SIGKILL
    said = finish(tmp_path, 1, *GATED, *STEPS)
    assert "processes: 1 now, 2 before; each step has the same images" in said
    assert result(tmp_path)["processes"] == [1, 2, 1]
    check_equal(tmp_path, one_process, 1e-6)
    for name, expected in weights(one_process).items():
        torch.testing.assert_close(weights(tmp_path)[name], expected, rtol=0, atol=1e-9)

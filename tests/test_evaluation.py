"""Evaluation on any number of real processes counts each image once."""

import re
from pathlib import Path

import pytest

from scripts.benchmarks.photographs import write_photographs
from tests import processes

pytestmark = pytest.mark.slow


def evaluate(root: Path, run_dir: Path, number: int) -> tuple[float, float]:
    options = ["model=resnet20", "model.backbone.depth=8", "trainer.accelerator=cpu", f"trainer.devices={number}"]
    options += ["data=image_folder", "data.num_classes=6", "data.input_size=32", f"data.root={root}"]
    options += ["data.num_workers=1", f"trainer.strategy={'ddp' if number > 1 else 'auto'}", f"run_dir={run_dir}"]
    done, *_ = processes.run_ranks(number, "tests/evaluate_untrained.py", *options, "data.batch_size=16")
    assert done.returncode == 0, done.stderr
    found = re.search(r"hits (\S+) loss (\S+)", done.stdout)
    assert found, done.stdout
    return float(found[1]), float(found[2])


def test_top1_on_101_images_is_the_same_number_with_1_2_and_3_processes(tmp_path: Path) -> None:
    write_photographs(tmp_path, 30, 101, (64, 48))
    (hits, loss), *others = [evaluate(tmp_path, tmp_path / "run", number) for number in (1, 2, 3)]
    assert hits == pytest.approx(round(hits), abs=1e-9)
    for other_hits, other_loss in others:
        assert round(other_hits) == round(hits)
        assert other_loss == pytest.approx(loss, rel=1e-5)

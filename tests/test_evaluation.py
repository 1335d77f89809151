"""Evaluation on any number of real processes counts each image once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarks.photographs import write_photographs
from tests.conftest import ROOT


def evaluate(root: Path, run_dir: Path, processes: int) -> tuple[float, float]:
    options = ["model=resnet20", "model.backbone.depth=8", "trainer.accelerator=cpu", f"trainer.devices={processes}"]
    options += ["data=image_folder", "data.num_classes=6", "data.input_size=32", f"data.root={root}"]
    options += ["data.num_workers=1", f"trainer.strategy={'ddp' if processes > 1 else 'auto'}", f"run_dir={run_dir}"]
    script = [sys.executable, "tests/evaluate_untrained.py", *options, "data.batch_size=16"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found = re.search(r"hits (\S+) loss (\S+)", done.stdout)
    assert found, done.stdout
    return float(found[1]), float(found[2])


@pytest.mark.slow
def test_top1_on_101_images_is_the_same_number_with_1_2_and_3_processes(tmp_path: Path) -> None:
    write_photographs(tmp_path, 30, 101, (64, 48))
    (hits, loss), *others = [evaluate(tmp_path, tmp_path / "run", processes) for processes in (1, 2, 3)]
    assert hits == pytest.approx(round(hits), abs=1e-9)
    for other_hits, other_loss in others:
        assert round(other_hits) == round(hits)
        assert other_loss == pytest.approx(loss, rel=1e-5)

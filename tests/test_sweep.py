"""Jobs of one process after each other: none leaves anything behind, and each of them is heard."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarks.photographs import write_photographs
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_no_job_of_a_sweep_leaves_processes_or_memory_and_all_are_heard(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", 40, 20, (64, 48))
    (next((tmp_path / "images" / "val").glob("*/*"))).write_text("no image")  # for a warning
    jobs = [f"seed={','.join(map(str, range(1, 4)))}", "model=resnet20", "model.backbone.depth=8"]
    data = ["data=image_folder", f"data.root={tmp_path / 'images'}", "data.num_classes=6", "data.input_size=32"]
    data += ["data.batch_size=10", "data.num_workers=2", "data.bad_share=0.5", "trainer.max_epochs=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUN_ROOT": str(tmp_path / "runs")}
    command = [sys.executable, "tests/train_watched.py", "-m", *jobs, *data, "trainer.accelerator=cpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    held = [[int(number) for number in found] for found in re.findall(r"held: (\d+) \D+ (\d+) MiB", done.stdout)]
    assert [children for children, _ in held] == [0, 0, 0]
    assert held[-1][1] < held[0][1] + 50  # a job's data, network and optimizer are more
    for line in ("the baseline: 7 convolutions", "epoch 1/1", "cannot read"):
        assert done.stderr.count(line) == 3, line

"""Jobs of one process after each other: a run each, none leaves anything behind, and each of them is heard."""

import json
import re
from pathlib import Path

import pytest

from scripts.benchmarks.photographs import write_photographs
from tests import processes

pytestmark = pytest.mark.slow


def test_jobs_of_a_sweep_are_runs_that_leave_nothing_behind_and_all_are_heard(tmp_path: Path) -> None:
    write_photographs(tmp_path / "images", 40, 20, (64, 48))
    (next((tmp_path / "images" / "val").glob("*/*"))).write_text("no image")  # for a warning
    jobs = ["-m", "model=resnet20,resnet20_sic,resnet20_lccl", "model.backbone.depth=8", "trainer.max_epochs=1"]
    data = ["data=image_folder", f"data.root={tmp_path / 'images'}", "data.num_classes=6", "data.input_size=32"]
    data += ["data.batch_size=10", "data.num_workers=2", "data.bad_share=0.5", "trainer.accelerator=cpu"]
    done = processes.run("tests/train_watched.py", *jobs, *data, status=0, RUN_ROOT=str(tmp_path / "runs"))
    assert re.findall(r"held: (\d+) child processes, (\d+) parts of runs", done.stdout) == [("0", "0")] * 3
    for line in ("convolutions", "epoch 1/1", "cannot read"):
        assert done.stderr.count(line) == 3, line
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert {record["layer"] for record in records} == {"conv", "sic", "lccl"}
    # The second run finds its trained baseline beside it.
    assert "baseline not trained" not in done.stdout.split("result:")[1]

"""scripts/benchmark.py as a user runs it, shortened: that its rows are complete, not what they say of speed."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_train_benchmark_pairs_ours_with_a_plainer_way() -> None:
    short = ["benchmark.steps=1", "benchmark.small_steps=20", "benchmark.repeats=2", "benchmark.threads=1"]
    script = [sys.executable, "scripts/benchmark.py", "benchmark=train", *short, "format=json"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["peer"] for row in rows] == ["bare loop", "empty Trainer"]
    for row in rows:
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert row["ours_images_per_second"] > 0


@pytest.mark.slow
def test_the_data_benchmark_pairs_ours_with_torchvision_and_timm() -> None:
    short = ["benchmark.photographs=60", "benchmark.images=20", "benchmark.batch_size=10", "benchmark.repeats=1"]
    script = [sys.executable, "scripts/benchmark.py", "benchmark=data", *short, "format=json"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 6
    for row in rows:
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert rows[0]["ratio"] > 5  # a tensor pipeline against images one by one: far enough for any machine
    for row in rows:  # on stderr while it runs; standard output is JSON alone
        assert f"{row['name']}: " in done.stderr
    assert float(rows[-1]["agreement"].split()[3]) < 2  # of 255, the decoders' and filters' rounding


def test_a_benchmark_must_be_chosen() -> None:
    done = subprocess.run([sys.executable, "scripts/benchmark.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "You must specify 'benchmark'" in done.stderr

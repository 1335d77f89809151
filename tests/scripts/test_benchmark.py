"""scripts/benchmark.py as a user runs it, shortened: that its rows are complete, not what they say of speed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from data.fashion_mnist import DEBIAN
from scripts.benchmark import show
from tests import processes
from tests.conftest import FinishedRun


@pytest.mark.slow
def test_the_train_benchmark_pairs_ours_with_a_plainer_way() -> None:
    short = ["benchmark.steps=1", "benchmark.small_steps=20", "benchmark.repeats=2", "benchmark.threads=1"]
    done = processes.run("scripts/benchmark.py", "benchmark=train", *short, "format=json", status=0)
    rows = json.loads(done.stdout)
    assert [row["peer"] for row in rows] == ["bare loop", "empty Trainer"]
    for row in rows:
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert row["ours_images_per_second"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs apt-get install dataset-fashion-mnist")
def test_the_data_benchmark_pairs_ours_with_torchvision_and_timm() -> None:
    short = ["benchmark.photographs=60", "benchmark.images=20", "benchmark.batch_size=10", "benchmark.repeats=1"]
    done = processes.run("scripts/benchmark.py", "benchmark=data", *short, "format=json", status=0)
    rows = json.loads(done.stdout)
    assert len(rows) == 6
    for row in rows:
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    for row in rows:  # measured once, in turn: which of the two is faster no test can say on a busy machine
        assert row["ratio"] == pytest.approx(row["ours_images_per_second"] / row["peer_images_per_second"])
    for row in rows:  # on stderr while it runs; standard output is JSON alone
        assert row["name"] in done.stderr
    assert float(rows[-1]["agreement"].split()[3]) < 2  # of 255, the decoders' and filters' rounding


@pytest.mark.slow
def test_a_benchmark_must_be_chosen() -> None:
    done = processes.run("scripts/benchmark.py", status=1)
    assert done.stdout == ""
    assert "error: benchmark: nothing is chosen; choose one with benchmark=..., there are: budget, data" in done.stderr


@pytest.mark.slow
def test_help_needs_no_choice() -> None:
    done = processes.run("scripts/benchmark.py", "--help", status=0)
    assert done.stderr == ""
    assert "benchmark: budget, data, gates, networks, published, steps, study, train, units" in done.stdout


def test_rows_are_shown_as_they_come(capsys) -> None:
    def rows():
        yield {"name": "first", "ratio": 1.23456}
        assert capsys.readouterr().out.splitlines() == [" name  ratio", "first  1.235"]
        yield {"name": "2nd", "ratio": 12.0}

    assert [row["name"] for row in show(rows(), sys.stdout)] == ["first", "2nd"]
    assert capsys.readouterr().out == "  2nd     12\n"


@pytest.mark.slow
def test_a_network_without_gates_is_refused_with_one_that_has_them(tmp_path: Path) -> None:
    done = processes.run("scripts/benchmark.py", "benchmark=gates", "benchmark.networks=[resnet20]", status=1)
    assert "benchmark.networks=[resnet20]: a network without gates; did you mean resnet20_lccl" in done.stderr
    done = processes.run("scripts/benchmark.py", "benchmark=gates", f"benchmark.networks=[{tmp_path}]", status=1)
    assert f"benchmark.networks=[{tmp_path}]: these are presets; finished runs go to benchmark.trained" in done.stderr


@pytest.mark.slow
def test_a_run_from_elsewhere_calls_nothing_of_its_own(finished_run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(finished_run.directory, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    record["config"]["model"]["layer"] = {"_target_": "os.system", "command": f"touch {tmp_path}/called"}
    (tmp_path / "run" / "result.json").write_text(json.dumps(record))
    alone = ("benchmark.layers=false", "benchmark.networks=[]", f"benchmark.trained=[{tmp_path}/run]")
    done = processes.run("scripts/benchmark.py", "benchmark=gates", *alone, status=1)
    assert f"{tmp_path}/run names _target_: os.system, which is no layer, backbone or scope" in done.stderr
    assert not (tmp_path / "called").exists()

"""The table of a folder of runs."""

import json
import shutil
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import FinishedRun

pytestmark = pytest.mark.slow


def test_finished_runs_are_rows_and_the_others_are_named(tmp_path: Path, finished_run: FinishedRun) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished_run.directory, tmp_path / name)
    record = json.loads((tmp_path / "one" / "result.json").read_text())
    other = {**record, "top1": record["top1"] + 2, "config": {**record["config"], "seed": 2}}
    (tmp_path / "two" / "result.json").write_text(json.dumps(other))
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "config.json").write_text("{}")
    (tmp_path / "failed" / "failed.txt").write_text("ValueError: the loss is nan\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text("[]")
    done = processes.run("scripts/runs.py", f"folder={tmp_path}", "format=json", status=0)
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert (row["n"], row["top1"], row["macs"]) == (2, record["top1"] + 1, record["macs"])
    assert found["unfinished"] == {
        str(tmp_path / "failed"): {"state": "failed", "text": "ValueError: the loss is nan"},
    }
    assert f"left out: {tmp_path}/foreign/result.json is not what a run writes" in done.stderr
    table = processes.run("scripts/runs.py", f"folder={tmp_path}", status=0).stdout
    assert f"{record['top1'] + 1:.2f} +/- 1.41" in table
    assert f"failed: {tmp_path}/failed: ValueError: the loss is nan" in table


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = processes.run("scripts/runs.py", f"folder={tmp_path / 'nowhere'}", status=1)
    assert "nowhere: there is no such folder; give the one that holds the runs' directories" in done.stderr

"""result.json on disk and the closing table."""

import json
from pathlib import Path

import pytest

from callbacks import record


def run(
    layer: str, top1: float, *, lr: float = 0.1, folder: str = "a", effective: float | None = None
) -> record.Record:
    config = {"model": {"backbone": {}, "layer": {"x": layer}, "scope": {}}, "optimizer": {"lr": lr}}
    return {
        "model": f"net_{layer}",
        "layer": layer,
        "data": "digits",
        "params": 50 if layer != "conv" else 100,
        "macs": 2_000 if layer != "conv" else 10_000,
        "macs_effective": effective,
        "baseline_params": 100,
        "baseline_macs": 10_000,
        "top1": top1,
        "config": config | {"run_dir": f"runs/{folder}", "logger": {"save_dir": f"runs/{folder}"}},
    }


def save(folder: Path, content: record.Record) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    record.write(folder, content)


def test_neighbours_are_finished_runs_on_the_same_data(tmp_path: Path) -> None:
    save(tmp_path / "mine", run("sic", 97))
    save(tmp_path / "same", run("conv", 99))
    save(tmp_path / "other", run("conv", 80) | {"data": "cifar10"})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text("[]")  # not a run of ours
    assert record.neighbours(tmp_path / "mine", "digits") == [run("conv", 99)]
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name.startswith(".")] == []


def test_the_baseline_is_the_run_that_differs_in_the_convolutions_alone() -> None:
    mine, same = run("sic", 97), run("conv", 99, folder="b")
    assert record.trained_baseline(mine, [run("conv", 98, lr=0.2), run("lccl", 98), same]) is same
    assert record.trained_baseline(mine, [run("conv", 98, lr=0.2)]) is None


def test_the_table_shows_what_is_known() -> None:
    text = record.table(run("lccl", 97.5, effective=1_600.4), [run("conv", 99.25)])
    rows = [line.split() for line in text.splitlines()]
    assert rows[1] == ["baseline", "100", "10,000", "1.00", "99.25"]
    assert rows[2] == ["net_lccl", "50", "2,000", "5.00", "97.50"]
    assert rows[3] == ["closed", "gates", "skipped", "50", "1,600", "6.25", "97.50"]
    assert "baseline not trained" in record.table(run("sic", 97), [])


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    record.write(tmp_path, {"top1": 1})
    with pytest.raises(TypeError):
        record.write(tmp_path, {"top1": object()})
    assert json.loads((tmp_path / "result.json").read_text()) == {"top1": 1}

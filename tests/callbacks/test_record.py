"""result.json on disk and the closing table."""

import json
import re
from pathlib import Path

import pytest

from callbacks import record
from conf import binding


def run(
    layer: str,
    top1: float,
    *,
    lr: float = 0.1,
    folder: str = "a",
    effective: float | None = None,
    ratio: float | None = None,
    l1: float = 0.0,
) -> record.Record:
    model = {"backbone": {}, "layer": {"x": layer}, "scope": {}, "budget_macs": None, "budget_ratio": ratio}
    config = {"model": model, "optimizer": {"lr": lr}, "gate_penalty": {"l2": 0.0, "l1": l1}}
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


def test_neighbours_are_finished_runs_on_the_same_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "mine", run("sic", 97))
    save(tmp_path / "same", run("conv", 99))
    save(tmp_path / "other", run("conv", 80) | {"data": "cifar10"})
    for name, text in {"foreign": "[]", "half": '{"data": "dig'}.items():
        save(tmp_path / name, run("conv", 0))
        (tmp_path / name / "result.json").write_text(text)
    assert record.neighbours(tmp_path / "mine", "digits") == [run("conv", 99)]
    assert re.findall(r"left out: .*/(\w+)/result.json", caplog.text) == ["foreign", "half"]
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name.startswith(".")] == []


def test_the_baseline_is_the_run_that_differs_in_the_convolutions_alone() -> None:
    mine, same = run("sic", 97), run("conv", 99, folder="b")
    assert record.trained_baseline(mine, [run("conv", 98, lr=0.2), run("lccl", 98), same]) is same
    assert record.trained_baseline(mine, [run("conv", 98, lr=0.2)]) is None


def test_a_budget_and_a_loss_of_gates_belong_to_the_layer() -> None:
    baseline = run("conv", 99, folder="b")
    for mine in (run("sic", 97, ratio=4.84), run("lccl", 97, l1=0.01)):
        assert record.trained_baseline(mine, [run("sic", 98, ratio=3.0), baseline]) is baseline
        assert record.beside_baseline(mine, [baseline]).splitlines()[1].split()[-1] == "99.00"
    last = record.beside_baseline(run("sic", 97, ratio=4.84), []).splitlines()[-1]
    assert "with model/layer=conv model.budget_ratio=null fills it in" in last
    last = record.beside_baseline(run("lccl", 97, l1=0.01), []).splitlines()[-1]
    assert "with model/layer=conv gate_penalty.l1=0 fills it in" in last


@pytest.mark.parametrize("preset", ["resnet50_sic", "resnet20_lccl", "preact_resnet164_lccl"])
def test_the_command_for_the_baseline_works_and_is_found(plain, preset: str) -> None:
    penalty = ["gate_penalty.l1=0.01"] if "lccl" in preset else []
    command = [f"model={preset}", "run_dir=here", *penalty]
    mine = run("sic", 97) | {"config": plain(*command)}
    overrides = re.search(r"the same command with (.*) fills it in", record.beside_baseline(mine, []))[1].split()
    config = plain(*command, *overrides)
    binding.check({key: config[key] for key in ("model", "gate_penalty")})
    baseline = run("conv", 99) | {"config": config}
    assert record.trained_baseline(mine, [baseline]) is baseline


def test_a_baseline_stands_alone() -> None:
    rows = [line.split() for line in record.beside_baseline(run("conv", 99.25), [run("conv", 98)]).splitlines()]
    assert rows[1:] == [["net_conv", "100", "10,000", "1.00", "99.25"]]


def test_the_table_shows_what_is_known() -> None:
    text = record.beside_baseline(run("lccl", 97.5, effective=1_600.4), [run("conv", 99.25)])
    rows = [line.split() for line in text.splitlines()]
    assert rows[1] == ["baseline", "100", "10,000", "1.00", "99.25"]
    assert rows[2] == ["net_lccl", "50", "2,000", "5.00", "97.50"]
    assert rows[3] == ["closed", "gates", "skipped", "50", "1,600", "6.25", "97.50"]
    assert "baseline not trained" in record.beside_baseline(run("sic", 97), [])


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    record.write(tmp_path, {"top1": 1})
    with pytest.raises(TypeError):
        record.write(tmp_path, {"top1": object()})
    assert json.loads((tmp_path / "result.json").read_text()) == {"top1": 1}

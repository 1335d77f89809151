"""scripts/complexity.py as a user runs it."""

import json
from pathlib import Path

import pytest

from tests import processes

pytestmark = pytest.mark.slow


def complexity(*arguments: str, status: int = 0) -> str:
    done = processes.run("scripts/complexity.py", *arguments, status=status)
    return done.stdout if status == 0 else done.stderr


def test_json_is_all_there_is_on_standard_output() -> None:
    report = json.loads(complexity("model=resnet20_lccl", "format=json"))
    assert (report["baseline_params"], report["baseline_macs"]) == (269_722, 40_551_040)
    assert report["flops"] == 2 * report["macs"]
    # A 3x3xCx1 gate on every 3x3 convolution: 9 times 16, 32 or 64 MACs a position.
    gates = 9 * (6 * 32 * 32 * 16 + 6 * 16 * 16 * 32 + 6 * 8 * 8 * 64 - 16 * 16 * 16 - 8 * 8 * 32)
    assert report["macs"] == report["baseline_macs"] + gates
    assert report["macs_gates_closed"] == gates + 32 * 32 * 27 * 16 + 640  # gates, stem and classifier
    assert sum(layer["macs"] for layer in report["layers"]) == report["macs"]
    assert sum(swap["replaced"] for swap in report["convolutions"]) == 18


def test_the_input_follows_the_data_or_the_paper() -> None:
    assert json.loads(complexity("model=resnet50", "format=json"))["macs"] == 4_089_184_256
    done = processes.run("scripts/complexity.py", "model=resnet18", "data=digits", "format=json")
    assert json.loads(done.stdout)["input"] == {"num_classes": 10, "size": 16, "channels": 1}
    assert done.stderr == "resnet18 at 16 px: the 7x7 stride-2 stem becomes 3x3 stride-1 and its pooling is left out\n"


def test_the_table_and_its_errors_are_readable() -> None:
    table = complexity("model=resnet20_sic")
    assert "18 of 19 convolutions replaced; kept: 1 (stem)" in table
    assert "not counted: aten.add" in table
    wrong = complexity("model/backbone=timm", "model.backbone.name=resnet5000", status=1)
    assert "timm has no network 'resnet5000'; near it: resnet50" in wrong


def test_a_preset_from_a_folder_of_ones_own_may_name_a_network_of_a_library(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    parts = "defaults: [{backbone: timm}, {layer: sic}, {scope: spatial}]\nbackbone: {name: resnet26d}\n"
    (tmp_path / "model" / "mine.yaml").write_text(parts)
    _, row = complexity("--config-dir", str(tmp_path), "model=mine", "format=row").splitlines()
    assert row.split()[:3] == ["resnet26d", "sic", "spatial"]

"""benchmark=gates: its arithmetic, and that its rows are true of what was run; not what they say of speed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.benchmarks.gated_layers import SHAPES, _layer_row, threshold
from scripts.benchmarks.gated_networks import trained_rows
from scripts.benchmarks.side_by_side import time_in_turn
from tests import processes
from tests.conftest import FinishedRun

KEYS = {"level", "name", "shape", "threads", "zero_fraction", "gates", "dense_ms", "skip_ms", "theoretical"} | {
    *("realised", "ratio", "spread", "macs_saved", "time_saved", "implementation"),
    *("dense_engine", "layers_skipping", "over_dense_product", "top1", "top1_deployed"),
}


@pytest.mark.parametrize(("share", "closed"), [(0.0, 0), (0.3, 300), (0.5, 500), (1.0, 1000)])
def test_a_threshold_leaves_the_share_that_was_asked_for(share: float, closed: int) -> None:
    values = torch.randn(1000)
    assert ((values - threshold(values, share)) <= 0).sum() == closed


def test_equal_values_fall_on_one_side_whatever_their_rounding() -> None:
    values = torch.cat([torch.randn(400) - 5, torch.full((600,), 0.3)])
    values[400:] += 1e-6 * torch.randn(600)
    for share, closed in ((0.5, 400), (0.9, 1000)):  # what is nearest to the share
        assert ((values - threshold(values, share)) <= 0).sum() == closed


@pytest.mark.parametrize("gate_kernel", ["1x1", "kxk"])
@pytest.mark.parametrize("pattern", ["random", "clustered"])
@pytest.mark.parametrize("shape", [(2, 16, 32, 1, 20), (1, 32, 16, 2, 13)])
def test_a_layer_row_closes_what_it_says(shape: tuple[int, ...], pattern: str, gate_kernel: str) -> None:
    for zeros in (0.0, 0.5, 0.9):
        row = _layer_row(shape, gate_kernel, zeros, pattern, repeats=2)
        assert set(row) == KEYS
        assert row["zero_fraction"] == pytest.approx(zeros, abs=0.02)
        outputs, taps = shape[2], 9
        overhead = 1 / outputs if gate_kernel == "kxk" else 1 / (outputs * taps)
        assert row["theoretical"] == pytest.approx(1 / (1 - row["zero_fraction"] + overhead))
        assert row["ratio"] == pytest.approx(row["realised"] / row["theoretical"])
        assert row["time_saved"] == pytest.approx(1 - 1 / row["realised"])


def test_the_layers_are_those_of_the_networks() -> None:
    assert len(SHAPES) == len(set(SHAPES)) == 24
    assert {shape[0] for shape in SHAPES} == {1, 8, 128}


def test_a_pair_takes_turns_and_leaves_out_the_first_round() -> None:
    turns: list[str] = []
    found = time_in_turn(lambda: turns.append("a"), lambda: turns.append("b"), repeats=3)
    assert turns == ["a", "b"] * 4
    assert len(found.rounds) == 3
    assert found.ratio > 0


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no result.json; benchmark.trained takes the directories of finished"):
        trained_rows(tmp_path, [], repeats=1)


def benchmark(*overrides: str) -> list[dict[str, Any]]:
    short = [
        "benchmark.layers=false",
        "benchmark.repeats=2",
        "benchmark.threads=[1]",
        "benchmark.engines=[eager,deploy]",
    ]
    short += overrides
    return json.loads(processes.run("scripts/benchmark.py", "benchmark=gates", "format=json", *short, status=0).stdout)


@pytest.mark.slow
def test_networks_are_compared_with_their_plain_selves() -> None:
    rows = benchmark("benchmark.networks=[resnet20_lccl]", "benchmark.zero_fractions=[0,0.5]")
    assert [row["level"] for row in rows] == ["network", "network"]
    opened, half = rows
    assert all(set(row) == KEYS for row in rows)
    assert opened["zero_fraction"] == 0
    assert opened["theoretical"] == pytest.approx(40_551_040 / 42_044_032)
    assert half["zero_fraction"] == pytest.approx(0.5, abs=0.1)
    assert half["theoretical"] > 1.6
    assert {row["dense_engine"] for row in rows} <= {"eager", "deploy"}


@pytest.mark.slow
def test_a_trained_network_classifies_as_its_run_did(finished_run: FinishedRun) -> None:
    result = json.loads((finished_run.directory / "result.json").read_text())
    network, *layers = benchmark("benchmark.networks=[]", f"benchmark.trained=[{finished_run.directory}]")
    assert network["top1"] == result["top1"]
    assert network["top1_deployed"] == pytest.approx(result["top1"], abs=0.3)  # one of 360 images
    assert network["theoretical"] == pytest.approx(result["baseline_macs"] / result["macs_effective"], rel=1e-3)
    assert {row["gates"] for row in (network, *layers)} == {"trained"}
    assert len(layers) == len(result["gate_sparsity"]) == 6

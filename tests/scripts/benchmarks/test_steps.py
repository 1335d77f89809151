"""benchmark=steps: its arithmetic, and that its rows are true of what was run; not what they say of speed."""

import json
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from conf import schema
from scripts.benchmarks import steps
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _composed():
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield


@pytest.mark.slow
def test_a_preset_has_a_row_for_each_precision_and_a_file_of_them(tmp_path: Path) -> None:
    out, choices = tmp_path / "steps.json", {"threads": 1, "rounds": 2, "seconds": 0.0}
    precisions = ["32-true", "bf16-mixed"]
    held = torch.ones(10**9 * 5 // 8, dtype=torch.float32)  # 2.5 GB, which this process holds and the measured do not
    found = list(
        steps.rows(networks=["resnet20_sic"], precisions=precisions, compiled=[False], **choices, out=str(out))
    )
    assert [row["precision"] for row in found] == precisions
    for row in found:
        assert (row["batch"], row["threads"], row["compiled"]) == (128, 1, False)
        assert row["mac_ratio"] == pytest.approx(6.34, abs=0.005)  # of the two counts in README.md
        assert row["images_per_second"] == pytest.approx(128e3 / row["ms"])
        # Every map of the first stage is 8.4 MB, and a backward pass needs dozens of them.
        assert 300 < row["plain_peak_mb"] < 2500
        assert 300 < row["peak_mb"] < 2500
    del held
    assert json.loads(out.read_text())["rows"] == found


def test_ratios_are_of_the_same_round_and_against_the_faster_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {
        ("network", False): [2.0, 2.0, 4.0],
        ("plain", False): [4.0, 6.0, 8.0],
        ("network", True): [1.0, 1.0, 2.0],
        ("plain", True): [2.0, 3.0, 2.0],
    }
    monkeypatch.setattr(steps, "_peak_megabytes", lambda *_: 100.0)
    monkeypatch.setattr(steps, "_step", lambda *_, compiled: lambda: None)
    monkeypatch.setattr(steps, "seconds_in_turn", lambda *_: times)
    eager, compiled = steps.compare("resnet20_sic", "32-true", [False, True], 3, 0.0)
    assert (eager["ms"], eager["plain_ms"], eager["images_per_second"]) == (2000.0, 6000.0, 64.0)
    assert (eager["faster"], compiled["faster"]) == (2.0, 2.0)  # 2, 3, 2 and 2, 3, 1
    assert (eager["over_best"], compiled["over_best"]) == (1.0, 2.0)  # 1, 1.5, 0.5 and 2, 3, 1


def test_the_batch_is_that_of_the_size_of_images() -> None:
    assert steps.configuration("resnet20_sic")["data"]["input_size"] == 32
    large = steps.configuration("resnet50_sic")
    assert (large["data"]["input_size"], large["data"]["num_classes"]) == (224, 1000)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"networks": ["resnet20_sicc"]},
            r"benchmark.networks=\[resnet20_sicc\]: no preset; did you mean resnet20_sic",
        ),
        ({"compiled": []}, r"benchmark.compiled=\[\]: give false, true or both"),
    ],
)
def test_mistakes_are_told(wrong: dict[str, list], message: str) -> None:
    choices = {"networks": ["resnet20_sic"], "precisions": ["32-true"], "compiled": [False], "threads": 1, "rounds": 2}
    with pytest.raises(ValueError, match=message):
        next(steps.rows(**{**choices, **wrong}, seconds=0.0, out=None))

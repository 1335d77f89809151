"""benchmark=networks: its arithmetic, and that its rows are true of what was run; not what they say of speed."""

import json
from itertools import groupby
from pathlib import Path
from typing import get_args

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from models.build import Input, build
from models.cost import count
from models.inference import engines
from models.inference.engines import Engine, EngineName, Network
from models.load import model_parts
from models.model_folder import write_model
from models.presets import preset, preset_names
from scripts.benchmarks import networks
from scripts.benchmarks.networks import Pair, compare, prepare, rows
from scripts.benchmarks.side_by_side import seconds_in_turn
from tests.conftest import ROOT

CHOICES = {"batch_sizes": [2], "threads": [1], "rounds": 2, "seconds": 0.0, "out": None}


def test_a_network_has_a_row_for_each_engine_and_a_file_of_them(tmp_path: Path, monkeypatch) -> None:
    def start(network: Network, images: torch.Tensor):
        raise RuntimeError("no kernel")

    monkeypatch.setitem(engines.ENGINES, "broken", Engine(start, torch.contiguous_format))
    out = tmp_path / "networks.json"
    choices = {"networks": ["resnet20_sic"], "engines": ["eager", "deploy", "broken"], **CHOICES, "out": str(out)}
    found = list(rows(**choices))
    assert [row["engine"] for row in found] == ["eager", "deploy", "broken"]
    for row in found[:2]:
        assert (row["plain"], row["pixels"], row["batch"], row["threads"]) == ("conv", 32, 2, 1)
        assert row["mac_ratio"] == pytest.approx(6.34, abs=0.005)  # of the two counts in README.md
        assert row["images_per_second"] == pytest.approx(2e3 / row["ms"])
        assert row["realised"] == pytest.approx(row["over_best"] / row["mac_ratio"])
        assert row["reason"] is None
    assert [row["fastest"] for row in found] == [row["ms"] == min(r["ms"] for r in found[:2]) for row in found]
    why = "broken cannot run this network (no kernel)"
    assert (found[2]["ms"], found[2]["reason"]) == (None, f"network: {why}; plain: {why}")
    assert json.loads(out.read_text())["rows"] == found


def test_ratios_are_of_the_same_round_and_against_the_best_plain_engine(monkeypatch) -> None:
    times = {
        ("network", "eager"): [1.0, 2.0, 4.0],
        ("network", "openvino"): [0.5, 0.5, 1.0],
        ("plain", "eager"): [6.0, 6.0, 8.0],
        ("plain", "openvino"): [3.0, 5.0, 4.0],
    }
    monkeypatch.setattr(networks, "seconds_in_turn", lambda *_: times)
    pair = Pair("net", "conv", {}, {"network": torch.randn(4, 3, 8, 8)}, 10.0)
    eager, openvino = compare(pair, 4, ["eager", "openvino"], 3, 0.0)
    assert (eager["ms"], eager["plain_ms"], eager["images_per_second"]) == (2000.0, 6000.0, 2.0)
    assert (eager["spread"], eager["plain_spread"]) == (0.75, pytest.approx(1 / 6))  # quartiles 1.5, 3 and 6, 7
    assert (eager["faster"], openvino["faster"]) == (3.0, 6.0)
    assert (eager["over_best"], openvino["over_best"]) == (2.5, 6.0)  # 3, 2.5, 1 and 6, 10, 4
    assert eager["realised"] == 0.25
    assert [row["best_plain"] for row in (eager, openvino)] == ["openvino", "openvino"]
    assert [row["fastest"] for row in (eager, openvino)] == [False, True]


def test_sides_take_turns_and_the_first_round_is_left_out() -> None:
    turns: list[str] = []
    found = seconds_in_turn({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 3, 0.0, "sides")
    assert {side: len(times) for side, times in found.items()} == {"a": 3, "b": 3}
    assert [side for side, _ in groupby(turns)] == ["a", "b"] * 4


@pytest.mark.slow
def test_beside_a_network_stands_its_plain_self_or_one_of_its_accuracy(monkeypatch) -> None:
    monkeypatch.setattr(networks, "calibrate", lambda net, images: None)
    found = prepare("factorized_845m", [1])
    assert (found.plain, found.size, found.images["plain"].shape) == ("resnet50", 221, (1, 3, 224, 224))
    assert found.mac_ratio == pytest.approx(4089 / 845, abs=0.02)  # millions: ResNet-50's, and the paper's own
    alone = prepare("resnet20", None)
    assert (alone.plain, alone.mac_ratio, list(alone.networks), len(alone.images["network"])) == (
        None,
        None,
        ["network"],
        128,
    )
    plain = prepare("resnet20_sic", [1]).networks["plain"].net
    assert {type(m) for m in plain.modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}
    assert count(plain, (3, 32, 32)) == count(alone.networks["network"].net, (3, 32, 32))


def test_a_run_is_measured_as_it_was_trained(tmp_path: Path) -> None:
    model = preset("resnet20_sic")
    model["backbone"]["depth"] = 8
    config = {"model": model, "data": {"num_classes": 10, "input_size": 8, "channels": 1}}
    net = build(**model_parts(config, "here"), input=Input(10, 8, 1)).net
    write_model(tmp_path, net.state_dict(), config, {"classes": [*"0123456789"], "preprocessing": None})
    found = prepare(str(tmp_path), [2])
    assert (found.plain, found.size) == ("conv", 8)
    for name, weight in found.networks["network"].net.state_dict().items():
        assert torch.equal(weight, net.state_dict()[name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"networks": ["resnet20_sik"]},
            r"networks=\[resnet20_sik\]: no preset or directory of a run; did you mean resnet20_sic",
        ),
        ({"networks": ["resnet20_lccl"]}, r"networks=\[resnet20_lccl\]: how fast gates are depends on images; take"),
        ({"rounds": 1}, "rounds=1: a spread takes at least 2"),
    ],
)
def test_a_mistake_is_said_before_anything_is_measured(wrong: dict, message: str) -> None:
    choices = {"networks": ["resnet20_sic"], "engines": ["eager"], **CHOICES, **wrong}
    with pytest.raises(ValueError, match=f"benchmark.{message}"):
        next(rows(**choices))


def test_the_defaults_are_presets_and_engines() -> None:
    defaults = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/benchmark/networks.yaml"))
    assert set(defaults["networks"]) <= set(preset_names())
    assert defaults["engines"] == list(engines.ENGINES) == list(get_args(EngineName))

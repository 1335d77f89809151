"""Engines: that each computes what the network does, and that one which cannot says why; not how fast they are."""

import importlib.util
import logging
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from models.inference import engines, export
from models.inference.engines import ENGINES, Engine, Network, fastest, start_all
from models.inference.export import Run
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided
from tests.models.inference.deployed import live_in

MARKS = {
    "compile": [pytest.mark.slow],
    "openvino": [pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="pip install openvino")],
}
IMAGES = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def started(name: str, network: Network) -> Run:
    """The function of the engine `name`; ValueError with the reason where it has none."""
    runs, reasons = start_all([name], network, IMAGES)
    if reasons:
        raise ValueError(reasons[name])
    return runs[name]


@pytest.fixture
def network(monkeypatch) -> Network:
    """What the SIC presets are made of: units, a subdivided projection, BatchNorm and a classifier."""
    monkeypatch.setattr(export, "WIDE", 4)  # from which on a subdivided layer is exported block by block
    layers = [Subdivided(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), SIC(8, 8, 3, padding=1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return Network(live_in(net, IMAGES), (4, 8, 8))


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in ENGINES])
def test_an_engine_computes_what_the_network_does(name: str, network: Network) -> None:
    run = started(name, network)
    others = torch.randn_like(IMAGES).contiguous(memory_format=ENGINES[name].memory_format)
    with torch.no_grad():
        torch.testing.assert_close(run(others), network.net(others))
    assert sys.modules.get("openvino_telemetry") is None


def test_an_engine_that_computes_something_else_is_refused(network: Network, monkeypatch) -> None:
    def nearly(off: float) -> Engine:
        def start(network: Network, images: Tensor):
            return lambda images: network.net(images).detach() * (1 + off)

        return Engine(start, torch.contiguous_format)

    monkeypatch.setitem(engines.ENGINES, "nearly", nearly(0.5e-4))
    started("nearly", network)
    for off in (2e-4, float("nan")):
        monkeypatch.setitem(engines.ENGINES, "wrong", nearly(off))
        with pytest.raises(ValueError, match="wrong computes something else: outputs differ by"):
            started("wrong", network)


def test_rounding_that_a_network_magnifies_is_no_mistake(network: Network, monkeypatch) -> None:
    """What float32 changes of double precision may be 4 times as much."""
    largest = network.net(IMAGES).abs().max().item()

    class Rounding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.dtype == torch.float64 else x + 1e-3 * largest

    def off(by: float) -> Engine:
        return Engine(lambda network, images: lambda images: network.net(images).detach() + by, torch.contiguous_format)

    monkeypatch.setitem(engines.ENGINES, "near", off(3.5e-3 * largest))
    monkeypatch.setitem(engines.ENGINES, "far", off(4.5e-3 * largest))
    runs, reasons = start_all(["near", "far"], Network(nn.Sequential(network.net, Rounding()), network.image), IMAGES)
    assert (list(runs), list(reasons)) == (["near"], ["far"])


def test_what_an_engine_cannot_run_has_a_reason(network: Network, monkeypatch) -> None:
    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    for name in ("onnxruntime", "deploy"):
        with pytest.raises(ValueError, match="Fickle"):
            started(name, Network(Fickle(), (4, 8, 8)))

    def start(network: Network, images: Tensor):
        raise RuntimeError("no kernel\nof this kind")

    monkeypatch.setitem(engines.ENGINES, "new", Engine(start, torch.contiguous_format))
    with pytest.raises(ValueError, match=r"^new cannot run this network \(no kernel\)$"):
        started("new", network)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match="openvino is not installed: pip install openvino"):
        started("openvino", network)


def test_the_fastest_engine_is_chosen_of_those_that_can(network: Network, monkeypatch, caplog) -> None:
    def slow(network: Network, images: Tensor):
        def run(images: Tensor) -> Tensor:
            time.sleep(0.02)
            return network.net(images).detach()

        return run

    def broken(network: Network, images: Tensor):
        raise RuntimeError("no kernel")

    monkeypatch.setitem(engines.ENGINES, "slow", Engine(slow, torch.contiguous_format))
    monkeypatch.setitem(engines.ENGINES, "broken", Engine(broken, torch.contiguous_format))
    with caplog.at_level(logging.INFO):
        name, run = fastest(network, IMAGES, ["slow", "broken", "eager"])
    assert name == "eager"
    with torch.no_grad():
        torch.testing.assert_close(run(IMAGES), network.net(IMAGES))
    assert "eager is the fastest engine for a batch of 3: slow 2" in caplog.text
    assert "broken cannot run this network (no kernel)" in caplog.text
    with pytest.raises(ValueError, match=r"no engine can run this network: broken cannot run this network"):
        fastest(network, IMAGES, ["broken"])


@pytest.mark.parametrize("name", ["deploy", "onnxruntime"])
def test_engines_start_in_inference_mode_too(name: str) -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
        assert started(name, Network(net, (4, 8, 8)))(IMAGES).shape == (3, 144)

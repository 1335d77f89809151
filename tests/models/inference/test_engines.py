"""Engines: that each computes what the network does, and that one which cannot says why; not how fast they are."""

import importlib.util
import logging
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from models.inference import engines
from models.inference.engines import ENGINES, Engine, Network, fastest, started
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided
from tests.models.inference.deployed import live_in

MARKS = {
    "compile": [pytest.mark.slow],
    "openvino": [pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="pip install openvino")],
}
IMAGES = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> Network:
    """What the SIC presets are made of: units, a subdivided projection, BatchNorm and a classifier."""
    layers = [Subdivided(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), SIC(8, 8, 3, padding=1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return Network(live_in(net, IMAGES), (4, 8, 8))


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in ENGINES])
def test_an_engine_computes_what_the_network_does(name: str, network: Network) -> None:
    run = started(name, network, IMAGES)
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
    started("nearly", network, IMAGES)
    for off in (2e-4, float("nan")):
        monkeypatch.setitem(engines.ENGINES, "wrong", nearly(off))
        with pytest.raises(ValueError, match=r"wrong computes something else: outputs of [\d.]+ at most differ by"):
            started("wrong", network, IMAGES)


def test_what_an_engine_cannot_run_has_a_reason(network: Network, monkeypatch) -> None:
    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    for name in ("onnxruntime", "deploy"):
        with pytest.raises(ValueError, match="Fickle"):
            started(name, Network(Fickle(), (4, 8, 8)), IMAGES)

    def start(network: Network, images: Tensor):
        raise RuntimeError("no kernel\nof this kind")

    monkeypatch.setitem(engines.ENGINES, "new", Engine(start, torch.contiguous_format))
    with pytest.raises(ValueError, match=r"^new cannot run this network \(no kernel\)$"):
        started("new", network, IMAGES)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match="openvino is not installed: pip install openvino"):
        started("openvino", network, IMAGES)


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
        net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten()).eval()
        assert started(name, Network(net, (4, 8, 8)), IMAGES)(IMAGES).shape == (3, 144)

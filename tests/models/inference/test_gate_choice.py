"""The choice between dense and skipping: its cost model, and that it follows what it measured."""

from functools import partial

import pytest
import torch
from torch import nn

from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input, build
from models.inference.deploy import deploy
from models.inference.gate_choice import GateChoice, choose_gates, gate_table
from models.kernels.fused_gated_conv import FusedGatedConv
from models.layers.lccl import LCCL
from models.scope import spatial


def choice(zero_fraction: float, dense_ms: float, closed_ms: float, open_ms: float) -> GateChoice:
    return GateChoice("", zero_fraction, 1000, 1000 * (1 - zero_fraction), dense_ms, closed_ms, open_ms, skips=True)


@pytest.mark.parametrize(
    ("model", "skip_ms", "break_even"),
    [
        (choice(0.5, dense_ms=10, closed_ms=1, open_ms=11), 6, 0.1),
        (choice(0.0, dense_ms=10, closed_ms=2, open_ms=22), 22, 0.6),
        (choice(1.0, dense_ms=10, closed_ms=1, open_ms=9), 1, 0.0),
        (choice(0.9, dense_ms=1, closed_ms=2, open_ms=4), 2.2, 1.5),
    ],
)
def test_the_cost_model_is_linear_in_the_open_share(model: GateChoice, skip_ms: float, break_even: float) -> None:
    assert model.skip_ms == pytest.approx(skip_ms)
    assert model.break_even == pytest.approx(break_even)


def test_the_report_has_a_line_for_each_layer() -> None:
    header, skips, dense = gate_table(
        [choice(0.5, dense_ms=10, closed_ms=1, open_ms=11), choice(0.9, dense_ms=1, closed_ms=2, open_ms=4)]
    ).splitlines()
    assert " ".join(header.split()) == "layer closed % MACs left x fewer dense ms skip ms x faster even at %"
    assert skips.split() == ["50.0", "1,000", "500", "2.00", "10.000", "6.000", "1.67", "10", "skips"]
    assert dense.split()[-2:] == ["never", "skips"]  # what was chosen is the caller's
    assert len(header) + len("  skips") == len(skips) == len(dense)


def test_every_gate_gets_the_faster_form_and_the_network_computes_the_same() -> None:
    net = build(partial(cifar_resnet, depth=8), LCCL, spatial, Input(10, 32, 3)).net.eval()
    nn.init.constant_(net.get_submodule("stage1.0.conv1.gate.norm").running_mean, 1e6)  # never open
    deployed, images = deploy(net), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = deployed(images)
        choices = choose_gates(deployed, images)
        torch.testing.assert_close(deployed(images), expected, rtol=1e-4, atol=1e-4)
    layers = {name: module for name, module in deployed.named_modules() if isinstance(module, FusedGatedConv)}
    assert [found.name for found in choices] == list(layers)
    for found in choices:
        assert layers[found.name].skips == found.skips == (found.skip_ms < found.dense_ms)
    closed = choices[0]
    assert closed.zero_fraction == 1
    assert closed.macs == 32 * 32 * 9 * 16 * 16
    assert closed.macs_effective == 32 * 32 * 9 * 16  # the gate alone
    assert all(0 <= found.zero_fraction <= 1 for found in choices)

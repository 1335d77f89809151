"""LCCL: the product written out, skipping as good as computing, its cost and its limits."""

import math

import pytest
import torch
from torch.nn import functional as F

from models.cost import count
from models.layers.lccl import LCCL

GEOMETRIES = [(3, 1, 1), (3, 2, 1), (3, 1, 0), (5, 2, 2), (1, 1, 0), (2, 1, 0), (4, 2, 1), (3, 1, 2, 2)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_pointwise_gate_looks_at_the_centre_of_each_window(geometry) -> None:
    layer = LCCL(4, 6, *geometry).double().eval()
    x = torch.randn(2, 4, 12, 15, dtype=torch.float64)
    kernel, stride, padding = geometry[:3]
    dilation = geometry[3] if len(geometry) == 4 else 1
    centre = math.ceil(dilation * (kernel - 1) / 2)
    delta = torch.zeros(1, 4, dilation * (kernel - 1) + 1, dilation * (kernel - 1) + 1, dtype=torch.float64)
    delta[0, :, centre, centre] = layer.gate.conv.weight[0, :, 0, 0]
    expected = F.conv2d(x, delta, stride=stride, padding=padding) / math.sqrt(1 + layer.gate.norm.eps)
    torch.testing.assert_close(layer.gate(x), expected.relu(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("gate_kernel", ["1x1", "kxk"])
def test_skipping_closed_positions_gives_the_dense_product(gate_kernel) -> None:
    layer = LCCL(5, 7, 3, 2, 1, gate_kernel=gate_kernel).double()
    x = torch.randn(2, 5, 11, 14, dtype=torch.float64)
    gate = layer.gate.eval()(x)
    assert 0 < (gate == 0).double().mean() < 1
    columns = F.unfold(x, 3, padding=1, stride=2)  # N, 5 * 9, positions
    opened = gate.flatten(2) > 0
    expected = torch.zeros(2, 7, columns.shape[2], dtype=torch.float64)
    for n, _, position in opened.nonzero().tolist():
        value = layer.conv.weight.flatten(1) @ columns[n, :, position] + layer.conv.bias
        expected[n, :, position] = value * gate.flatten(2)[n, 0, position]
    torch.testing.assert_close(layer(x).flatten(2), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("gate_kernel", "taps"), [("1x1", 1), ("kxk", 9)])
def test_costs_its_formula(gate_kernel, taps: int) -> None:
    cost = count(LCCL(16, 32, 3, 2, 1, gate_kernel=gate_kernel), (16, 32, 32))
    assert cost.macs_of("conv") == 16 * 16 * 9 * 16 * 32
    assert cost.macs_of("gate") == 16 * 16 * taps * 16
    assert cost.macs == cost.macs_of("conv") + cost.macs_of("gate")


def test_both_branches_learn_the_gate_slowly() -> None:
    layer = LCCL(4, 4, 3, padding=1, gate_lr_scale=0.25)
    layer(torch.randn(8, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters() if parameter.ndim > 1)
    assert layer.gate.lr_scale == 0.25


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="gate_kernel='3x3': must be '1x1' or 'kxk'"):
        LCCL(4, 4, 3, gate_kernel="3x3")
    with pytest.raises(ValueError, match="gate_lr_scale=0: must be positive"):
        LCCL(4, 4, 3, gate_lr_scale=0)

"""Bottleneck: its cost and its width."""

import pytest
import torch
from torch import nn

from models.cost import count
from models.layers.bottleneck import Bottleneck

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"bottleneck": lambda m, n, taps, groups: groups > 1}


def test_costs_its_formula() -> None:
    """m r at input size, k^2 r^2 + r n at output size."""
    cost = count(Bottleneck(64, 128, 3, 2, 1, bias=False), (64, 14, 14))
    assert cost.macs == 196 * 64 * 32 + 49 * (9 * 32 * 32 + 32 * 128)


def test_the_resnet_block() -> None:
    """256 -> 64 -> 64 -> 256 has 69,632 weights (Xie et al. 2017, table 1)."""
    convs = [m for m in Bottleneck(256, 256, 3, padding=1, bias=False).modules() if isinstance(m, nn.Conv2d)]
    assert sum(conv.weight.numel() for conv in convs) == 69_632


def test_is_three_convolutions_with_relus_between() -> None:
    layer = Bottleneck(8, 8, 3, padding=1).double()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    expected = layer.up(layer.conv(layer.down(x).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_narrowest_and_refusals() -> None:
    assert Bottleneck(3, 8, 3, reduction=100.0).conv.in_channels == 1
    with pytest.raises(ValueError, match=r"reduction=0.5: .* nearest: 1"):
        Bottleneck(8, 8, 3, reduction=0.5)
    with pytest.raises(ValueError, match=r"groups=8: .* nearest: 1"):
        Bottleneck(8, 8, 3, groups=8)

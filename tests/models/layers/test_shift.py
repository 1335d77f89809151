"""Shift: the displacement as a depthwise convolution with one-hot kernels, its cost and its limits."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.shift import Shift

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"shift": lambda m, n, taps, groups: groups > 1 or n < taps}

GEOMETRIES = [
    (3, 1, 1),
    (3, 2, 1),
    (3, 1, 0),
    (5, 2, 2),
    (1, 2, 0),
    (4, 3, 1),
    (3, 1, 2, 2),
    ((2, 3), (2, 1), (0, 4), (3, 2)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("left_over", [0, 4])
def test_displaces_as_one_hot_depthwise_kernels_do(geometry, left_over: int) -> None:
    reference = nn.Conv2d(1, 1, *geometry)
    (rows, columns), dilation = reference.kernel_size, reference.dilation
    channels = 2 * rows * columns + left_over % (rows * columns)
    layer = Shift(5, channels, *geometry).double()
    reach = [d * (k - 1) for d, k in zip(dilation, (rows, columns), strict=True)]
    one_hot = torch.zeros(channels, 1, reach[0] + 1, reach[1] + 1, dtype=torch.float64)
    for channel in range(channels):
        row, column = divmod(channel // 2, columns)
        if row < rows:
            one_hot[channel, 0, row * dilation[0], column * dilation[1]] = 1
        else:
            one_hot[channel, 0, math.ceil(reach[0] / 2), math.ceil(reach[1] / 2)] = 1
    x = torch.randn(2, 5, 11, 14, dtype=torch.float64)
    inner = F.relu(layer.expand(x))
    displaced = F.conv2d(inner, one_hot, None, reference.stride, reference.padding, groups=channels)
    torch.testing.assert_close(layer(x), layer.project(displaced), rtol=0, atol=1e-10)


def test_channels_left_over_are_not_displaced() -> None:
    x = torch.randn(1, 13, 6, 7)
    assert torch.equal(Shift(3, 13, 3, padding=1).displace(x)[:, 9:], x[:, 9:])


def test_keeps_channels_last() -> None:
    x = torch.randn(2, 20, 6, 7).to(memory_format=torch.channels_last)
    assert Shift(20, 20, 3, padding=1).displace(x).is_contiguous(memory_format=torch.channels_last)


def test_costs_its_formula() -> None:
    cost = count(Shift(16, 32, 3, 2, 1, expansion=3, bias=False), (16, 8, 8))
    assert cost.macs == 64 * 16 * 96 + 16 * 96 * 32
    assert cost.params == 3 * 32 * (16 + 32) + 2 * 96  # expansion n (m + n), and the BatchNorm


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="expansion=1: 16 channels .* 25 places .* nearest: 2"):
        Shift(8, 16, 5)
    with pytest.raises(ValueError, match="expansion=0: .* nearest: 1"):
        Shift(8, 16, 3, expansion=0)
    with pytest.raises(ValueError, match="groups=4: .* nearest: 1"):
        Shift(16, 16, 3, groups=4)

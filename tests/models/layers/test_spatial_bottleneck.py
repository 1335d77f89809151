"""The spatial bottleneck: its pipeline written out, the 1x1 special case, its cost."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.spatial_bottleneck import SpatialBottleneck
from models.layers.subdivided import Subdivided

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"spatial_bottleneck_subdivided": lambda m, n, taps, groups: groups > 1 or math.gcd(m, n) == 1}


@pytest.mark.parametrize("stride", [1, 2])
def test_a_1x1_kernel_is_a_1x1_convolution(stride: int) -> None:
    layer = SpatialBottleneck(6, 4, 1, stride).double()
    down, project, up = layer.down.weight, layer.project.weight, layer.up.weight
    weight = up.view(4, 1, 1, 1) * project * down.view(1, 6, 1, 1)
    bias = up.flatten() * layer.project.bias
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, bias, stride), rtol=0, atol=1e-10)


def test_one_low_position_stands_for_a_tile() -> None:
    layer = SpatialBottleneck(3, 5, 3, padding=1, bias=False).double()
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    y = layer(x)
    for row in range(2):
        for column in range(3):
            tile = x[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            low = (tile * layer.down.weight[:, 0]).sum((2, 3)) @ layer.project.weight[:, :, 0, 0].T
            expected = low[:, :, None, None] * layer.up.weight[:, 0]
            actual = y[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_a_tile_sees_the_centres_of_its_outputs_windows() -> None:
    """Stride 2, padding 0, 5 x 5: output 0 is centred on pixel 2, so two of them span pixels 2 to 4."""
    layer = SpatialBottleneck(1, 1, 5, 2, 0, bias=False, reduction=2)
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, 1, 13, 13, requires_grad=True)
    layer(x)[0, 0, 0, 0].backward()
    seen = x.grad[0, 0].nonzero()
    assert seen.min().item() == 2
    assert seen.max().item() == 4


@pytest.mark.parametrize("reduction", [2, 3])
def test_costs_its_formula(reduction: int) -> None:
    n, size = 256, 36
    layer = SpatialBottleneck(n, n, 3, padding=1, bias=False, reduction=reduction)
    cost = count(layer, (n, size, size))
    assert cost.macs == size * size * n * (2 * reduction**2 + n) // reduction**2  # 66 and 30.4 MACs a value at n = 256
    assert cost.macs / (size * size * n) == pytest.approx({2: 66, 3: 30.44}[reduction], abs=0.01)


def test_the_projection_may_be_subdivided() -> None:
    layer = SpatialBottleneck(64, 64, 3, padding=1, bias=False, projection=partial(Subdivided, kept=0.25))
    cost = count(layer, (64, 12, 12))
    assert cost.macs_of("project") == 4 * 4 * 64 * 16


def test_refusal_names_the_argument() -> None:
    with pytest.raises(ValueError, match="reduction=0: .* nearest: 1"):
        SpatialBottleneck(4, 4, 3, reduction=0)


def test_autocast_on_a_cpu_leaves_the_depthwise_parts_in_float32() -> None:
    layer, seen = SpatialBottleneck(4, 6, 3, padding=1, bias=False), {}
    for name in ("down", "project", "up"):
        layer.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: out.dtype})
        )
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 4, 7, 8)).sum().backward()
    assert seen == {"down": torch.float32, "project": torch.bfloat16, "up": torch.float32}

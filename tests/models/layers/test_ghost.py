"""Ghost: the module written out channel by channel, the counted Ghost-VGG-16, its limits."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.ghost import Ghost

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"ghost": lambda m, n, taps, groups: math.ceil(n / 2) % groups}

VGG16 = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]  # 0: halve the resolution


@pytest.mark.parametrize(("outputs", "ratio", "cheap"), [(8, 2, 3), (9, 2, 3), (8, 3, 5), (7, 4, 1)])
def test_ghosts_come_from_the_convolved_maps(outputs: int, ratio: int, cheap: int) -> None:
    layer = Ghost(4, outputs, 3, 2, 1, ratio=ratio, cheap_kernel_size=cheap).double()
    x = torch.randn(2, 4, 9, 12, dtype=torch.float64)
    maps = F.conv2d(x, layer.primary.weight, layer.primary.bias, 2, 1)
    expected = list(maps.split(1, dim=1))
    for ghost in range(outputs - len(expected)):
        source = maps[:, ghost // (ratio - 1), None]
        weight, bias = layer.cheap.weight[ghost, None], layer.cheap.bias[ghost, None]
        expected.append(F.conv2d(source, weight, bias, padding=cheap // 2))
    assert maps.shape[1] == -(-outputs // ratio)
    torch.testing.assert_close(layer(x), torch.cat(expected, dim=1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("ratio", "cheap", "params"),
    [(2, 3, 7_379_946), (2, 1, 7_363_306), (2, 7, 7_463_146), (3, 3, 4_948_074), (4, 3, 3_712_122), (5, 3, 2_999_430)],
)
def test_counts_as_ghost_vgg16(ratio: int, cheap: int, params: int) -> None:
    cost = count(ghost_vgg16(ratio=ratio, cheap_kernel_size=cheap), (3, 32, 32))
    assert cost.params == params
    if (ratio, cheap) == (2, 3):
        assert cost.macs == 158_437_376


def ghost_vgg16(**knobs) -> nn.Module:
    """For CIFAR-10, without biases; its first convolution stays, one linear layer classifies."""
    layers, channels = [nn.Conv2d(3, 64, 3, padding=1, bias=False)], 64  # the first convolution stays
    for width in VGG16[1:]:
        layers.append(Ghost(channels, width, 3, padding=1, bias=False, **knobs) if width else nn.MaxPool2d(2))
        channels = width or channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def test_keeps_groups() -> None:
    layer = Ghost(8, 16, 3, padding=1, groups=4)
    x = torch.randn(1, 8, 5, 5, requires_grad=True)
    layer(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2, 3)) > 0).tolist() == [True] * 2 + [False] * 6


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="ratio=1: must be from 2 to out_channels=8; nearest: 2"):
        Ghost(4, 8, 3, ratio=1)
    with pytest.raises(ValueError, match="ratio=9: must be from 2 to out_channels=8; nearest: 8"):
        Ghost(4, 8, 3, ratio=9)
    with pytest.raises(ValueError, match="cheap_kernel_size=2: must be odd; nearest: 3"):
        Ghost(4, 8, 3, cheap_kernel_size=2)
    with pytest.raises(ValueError, match="groups=8 must divide the 4 .* nearest: 4"):
        Ghost(8, 8, 3, groups=8)
    with pytest.raises(ValueError, match="out_channels=1: .* nearest: 2"):
        Ghost(8, 1, 3)

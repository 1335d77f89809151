"""Grouped convolution: one group is nn.Conv2d, more are convolutions side by side, the shuffle's order."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.grouped import Grouped

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"grouped": lambda m, n, taps, groups: m // groups % 4 or n // groups % 4}


@pytest.mark.parametrize("geometry", [(3, 1, 1), (3, 2, 1), (1, 1, 0), ((3, 5), 1, (2, 0), 2)])
def test_one_group_is_the_convolution(geometry) -> None:
    conv = nn.Conv2d(6, 8, *geometry).double()
    layer = Grouped(6, 8, *geometry, cardinality=1).double()
    layer.conv.load_state_dict(conv.state_dict())
    x = torch.randn(2, 6, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-10)


def test_groups_are_convolutions_side_by_side_then_dealt_out() -> None:
    """Shuffled channel j * groups + i is channel i * (n / groups) + j (Zhang et al. 2018)."""
    layer = Grouped(6, 12, 3, padding=1, cardinality=3).double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    weights, biases = layer.conv.weight.chunk(3), layer.conv.bias.chunk(3)
    parts = [F.conv2d(part, w, b, padding=1) for part, w, b in zip(x.chunk(3, 1), weights, biases, strict=True)]
    side_by_side = torch.cat(parts, 1)
    dealt = torch.stack([side_by_side[:, i * 4 + j] for j in range(4) for i in range(3)], 1)
    torch.testing.assert_close(layer(x), dealt, rtol=0, atol=1e-10)
    layer.shuffle = nn.Identity()
    torch.testing.assert_close(layer(x), side_by_side, rtol=0, atol=1e-10)


def test_costs_its_formula() -> None:
    cost = count(Grouped(64, 128, 3, 2, 1, bias=False, cardinality=4), (64, 14, 14))
    assert (cost.params, cost.macs) == (9 * 64 * 128 // 4, 49 * 9 * 64 * 128 // 4)


def test_refusal_names_the_nearest_divisor() -> None:
    with pytest.raises(ValueError, match=r"cardinality=8 must divide in_channels=116 .* nearest: 4"):
        Grouped(116, 116, 3, cardinality=8)
    with pytest.raises(ValueError, match=r"cardinality=4 must divide in_channels=8 .* groups=4\); nearest: 2"):
        Grouped(8, 16, 3, groups=4, cardinality=4)

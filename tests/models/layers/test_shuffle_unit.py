"""ShuffleNet's branch: the shuffle written out, the survey's worked example, its limits."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.shuffle_unit import ShuffleUnit

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"shuffle_unit": lambda m, n, taps, groups: groups > 1 or m % 2 or n % 2}


@pytest.mark.parametrize("cardinality", [1, 2, 3])
def test_is_the_branch_written_out(cardinality: int) -> None:
    layer = ShuffleUnit(12, 24, 3, 2, 1, cardinality=cardinality, reduction=2).double()
    x = torch.randn(2, 12, 7, 10, dtype=torch.float64)
    reduced = F.relu(layer.reduce(x))
    each = 12 // cardinality  # channel i * each + j goes to j * cardinality + i
    order = [i * each + j for j in range(each) for i in range(cardinality)]
    expected = layer.restore(layer.depthwise(reduced[:, order]))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_every_output_hears_every_input_through_the_shuffle() -> None:
    layer = ShuffleUnit(8, 16, 3, padding=1, reduction=2)
    for conv in (layer.reduce, layer.depthwise, layer.restore):
        nn.init.ones_(conv.weight)
    x = torch.rand(1, 8, 5, 5, requires_grad=True)
    layer(x)[0, 0, 2, 2].backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2, 3)) > 0).all()


def test_the_worked_example_counts_one_bias() -> None:
    """240 -> 80 -> 240 in two groups: 19,920 weights. The published 20,160 adds the last bias vector only."""
    layer = ShuffleUnit(240, 240, 3, padding=1, reduction=3)
    convs = (layer.reduce, layer.depthwise, layer.restore)
    weights = sum(conv.weight.numel() for conv in convs)
    assert weights == 240 * 80 // 2 + 9 * 80 + 80 * 240 // 2 == 19_920
    assert weights + layer.restore.bias.numel() == 20_160
    assert sum(parameter.numel() for parameter in layer.parameters()) == 20_320


def test_costs_its_formula_and_normalises_where_the_network_does() -> None:
    cost = count(ShuffleUnit(16, 32, 3, 2, 1, bias=False), (16, 8, 8))
    assert cost.macs == 64 * 16 * 8 // 2 + 16 * (9 * 8 + 8 * 32 // 2)
    assert cost.params == 16 * 8 // 2 + 9 * 8 + 8 * 32 // 2 + 2 * 2 * 8


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="cardinality=5 must divide in_channels=24 and out_channels=16; nearest: 4"):
        ShuffleUnit(24, 16, 3, cardinality=5)
    with pytest.raises(ValueError, match="reduction=5 must divide out_channels / cardinality = 8; nearest: 4"):
        ShuffleUnit(24, 16, 3, reduction=5)
    with pytest.raises(ValueError, match="groups=8: .* nearest: 1"):
        ShuffleUnit(8, 8, 3, groups=8)

"""Dilated convolution: the kernel with zeros between its taps."""

import pytest
import torch
from torch.nn import functional as F

from models.cost import count
from models.layers.dilated import Dilated

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"dilated": lambda m, n, taps, groups: taps == 1}


@pytest.mark.parametrize(("stride", "padding", "rate"), [(1, 1, 2), (2, 1, 2), (1, 0, 3), (1, 1, 1)])
def test_is_the_kernel_with_zeros_between_its_taps(stride: int, padding: int, rate: int) -> None:
    layer = Dilated(4, 6, 3, stride, padding, rate=rate).double()
    sparse = torch.zeros(6, 4, 2 * rate + 1, 2 * rate + 1, dtype=torch.float64)
    sparse[:, :, ::rate, ::rate] = layer.conv.weight
    x = torch.randn(2, 4, 11, 12, dtype=torch.float64)
    expected = F.conv2d(x, sparse, layer.conv.bias, stride, padding + rate - 1)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_costs_what_the_convolution_costs() -> None:
    assert count(Dilated(8, 16, 3, 1, 1, bias=False, rate=4), (8, 10, 10)).macs == 100 * 9 * 8 * 16


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"kernel_size=\(1, 1\): .* nearest: 3"):
        Dilated(4, 4, 1)
    with pytest.raises(ValueError, match="rate=0: .* nearest: 1"):
        Dilated(4, 4, 3, rate=0)
    with pytest.raises(ValueError, match=r"rate=2 on kernel_size=\(2, 2\) .* nearest: 3"):
        Dilated(4, 4, 2, rate=2)

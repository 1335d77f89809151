"""The bases layer: complete bases express any convolution; its cost and its ratio."""

import pytest
import torch
from torch import nn

from models.cost import count
from models.layers.bases import Bases


@pytest.mark.parametrize("geometry", [(3, 1, 1), (3, 2, 1), (5, 1, 0), (3, 1, 2, 2)])
def test_one_hot_bases_give_the_convolution(geometry) -> None:
    conv = nn.Conv2d(5, 7, *geometry).double()
    taps = geometry[0] ** 2
    layer = Bases(5, 7, *geometry, num_bases=taps).double()
    with torch.no_grad():
        layer.depthwise.weight.copy_(torch.eye(taps).reshape(taps, 1, *conv.kernel_size).repeat(5, 1, 1, 1))
        layer.project.weight.copy_(conv.weight.reshape(7, 5 * taps, 1, 1))
        layer.project.bias.copy_(conv.bias)
    x = torch.randn(2, 5, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("num_bases", [1, 2, 9])
def test_ratio_to_the_convolution(num_bases: int) -> None:
    m = n = 128
    cost = count(Bases(m, n, 3, padding=1, bias=False, num_bases=num_bases), (m, 10, 10))
    conv = count(nn.Conv2d(m, n, 3, padding=1, bias=False), (m, 10, 10))
    assert cost.params == num_bases * m * (9 + n)  # 17,536 for one basis, 35,072 for two
    assert cost.macs / conv.macs == pytest.approx((9 * num_bases + n * num_bases) / (9 * n))


def test_refusal_names_the_argument() -> None:
    with pytest.raises(ValueError, match="num_bases=0: .* nearest: 1"):
        Bases(4, 4, 3, num_bases=0)

"""Depthwise separable convolution: worked counts, its ratio, its two steps."""

import pytest
import torch
from torch.nn import functional as F

from models.cost import count
from models.layers.separable import Separable


@pytest.mark.parametrize(("n", "k"), [(128, 3), (256, 5)])
def test_ratio_to_the_convolution(n: int, k: int) -> None:
    macs = count(Separable(64, n, k, padding=k // 2, bias=False), (64, 9, 9)).macs
    assert macs / (81 * k * k * 64 * n) == pytest.approx(1 / n + 1 / k**2)


def test_two_steps_with_a_relu_between() -> None:
    layer = Separable(4, 6, 3, 2, 1).double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    filtered = F.conv2d(x, layer.depthwise.weight, layer.depthwise.bias, 2, 1, groups=4).clamp(min=0)
    expected = torch.einsum("om,nmhw->nohw", layer.project.weight[:, :, 0, 0], filtered)
    torch.testing.assert_close(layer(x), expected + layer.project.bias[:, None, None], rtol=0, atol=1e-10)
    assert isinstance(Separable(4, 6, 3, bias=False).norm, torch.nn.BatchNorm2d)

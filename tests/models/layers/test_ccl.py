"""CCL: the classifier written as sums over runs of maps, the paper's counts, its limit."""

import pytest
import torch

from models.cost import count
from models.layers.ccl import CCL


def test_class_j_sees_maps_j_to_j_plus_m_minus_n() -> None:
    layer = CCL(9, 6, (3, 2)).double()
    x = torch.randn(4, 9, 3, 2, dtype=torch.float64)
    expected = torch.stack([(x[:, j : j + 4] * layer.conv.weight[0, 0]).sum((1, 2, 3)) for j in range(6)], dim=1)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_costs_what_the_paper_says() -> None:
    cost = count(CCL(1024, 1000, 7), (1024, 7, 7))
    assert (cost.params, cost.macs) == (1225, 1225 * 1000)


def test_refuses_more_classes_than_maps() -> None:
    with pytest.raises(ValueError, match="num_classes=1000: must be at most in_channels=512; nearest: 512"):
        CCL(512, 1000, 7)

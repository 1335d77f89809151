"""SIC: Algorithm 3 of arXiv:1608.04337 written out, and its limits."""

import pytest
import torch
from torch.nn import functional as F

from models.layers.sic import SIC


def test_is_algorithm_3_in_float64() -> None:
    layer = SIC(6, 6, 3, padding=1, depth=3).double().eval()  # fresh batch norms are the identity up to their epsilon
    for unit in layer:
        unit.norm.eps = 0.0
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    expected = x
    for unit in layer:
        spatial = torch.zeros_like(expected)
        padded = F.pad(expected, (1, 1, 1, 1))
        for u in range(3):
            for v in range(3):
                spatial += unit.depthwise.weight[:, 0, u, v, None, None] * padded[:, :, u : u + 7, v : v + 9]
        projected = torch.einsum("oi,nihw->nohw", unit.project.weight[:, :, 0, 0], spatial)
        expected = (expected + projected).clamp(min=0)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("arguments", [(6, 8, 3, 1, 1), (6, 6, 3, 2, 1), (6, 6, 3, 1, 0)])
def test_no_residual_link_where_the_shape_changes(arguments) -> None:
    first, second = SIC(*arguments, depth=2)
    assert (first.residual, second.residual) == (False, True)


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="depth=0: .* nearest: 1"):
        SIC(4, 4, 3, depth=0)
    with pytest.raises(ValueError, match=r"kernel_size=\(2, 2\): stacked, .* nearest: 3"):
        SIC(4, 4, 2, depth=2)

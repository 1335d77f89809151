"""SIC: Algorithm 3 of arXiv:1608.04337 written out, and its limits."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"sic_subdivided": lambda m, n, taps, groups: groups > 1 or math.gcd(m, n) == 1}


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


def test_a_larger_depthwise_kernel_takes_the_place_of_the_convolutions() -> None:
    assert SIC(4, 4, 3, 2, 1, depthwise_kernel_size=5)[0].depthwise.kernel_size == (5, 5)
    x = torch.randn(1, 4, 9, 10)
    assert SIC(4, 4, 3, 2, 1, depthwise_kernel_size=7)(x).shape == nn.Conv2d(4, 4, 3, 2, 1)(x).shape
    with pytest.raises(ValueError, match=r"a kernel of size 4 cannot stand for \(3, 3\); nearest: 5"):
        SIC(4, 4, 3, 1, 1, depthwise_kernel_size=4)


def test_a_pointwise_convolution_is_its_projection() -> None:
    conv = nn.Conv2d(6, 8, 1, 2)
    layer = SIC(6, 8, 1, 2)
    layer[0].load_state_dict(conv.state_dict())
    x = torch.randn(2, 6, 7, 8)
    assert torch.equal(layer(x), conv(x))


@pytest.mark.parametrize(
    ("norm", "norms", "has_bias"), [("none", 0, True), ("projection", 1, False), ("both", 2, False)]
)
def test_where_normalisation_stands(norm: str, norms: int, has_bias: bool) -> None:
    layer = SIC(6, 6, 3, padding=1, norm=norm)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in layer.modules()) == norms
    assert (layer[0].project.bias is not None) == has_bias


def test_costs_its_formula_with_a_subdivided_projection() -> None:
    """H W n (k^2 + c_1 ... c_s) for m = n."""
    layer = SIC(128, 128, 3, padding=1, projection=partial(Subdivided, kept=0.25))
    assert count(layer, (128, 10, 10)).macs == 100 * 128 * (9 + 32)

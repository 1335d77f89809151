"""Topological subdivision: Algorithm 4 of arXiv:1608.04337 written out, the dense special case, the choices."""

import itertools
import math

import pytest
import torch
from torch import nn

from models.cost import count
from models.layers.subdivided import Subdivided

# grid, window, out_channels: the paper's 2-D, 3-D and 4-D; whole and partial windows; more and fewer outputs.
GRIDS = [
    ((4, 4), (2, 4), 16),
    ((4, 4), (2, 3), 16),
    ((3, 4, 2), (2, 3, 2), 24),
    ((2, 3, 4), (2, 2, 2), 24),
    ((2, 2, 2, 3), (2, 1, 2, 2), 24),
    ((16,), (3,), 16),
    ((2, 3, 4), (2, 2, 2), 48),
    ((2, 2, 8), (1, 2, 4), 16),
    ((4, 3), (2, 3), 20),
]


def connections(grid, window, out_channels: int) -> torch.Tensor:
    """Which inputs each output sees, from the index rule: (out_channels, in_channels) of zeros and ones."""
    outputs = (*grid[:-1], out_channels // math.prod(grid[:-1]))
    table = torch.zeros(out_channels, math.prod(grid), dtype=torch.float64)
    for j, out in enumerate(itertools.product(*map(range, outputs))):
        start = (*out[:-1], out[-1] * grid[-1] // outputs[-1])
        for offset in itertools.product(*map(range, window)):
            source = [(a + o) % d for a, o, d in zip(start, offset, grid, strict=True)]
            table[j, sum(s * math.prod(grid[t + 1 :]) for t, s in enumerate(source))] = 1
    return table


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("grid", "window", "out_channels"), GRIDS)
def test_each_output_sees_its_window(grid, window, out_channels: int, kernel: int) -> None:
    m = math.prod(grid)
    layer = Subdivided(m, out_channels, kernel, padding=kernel // 2, bias=False, grid=grid, window=window).double()
    nn.init.ones_(layer.weight)
    impulses = torch.zeros(m, m, 5, 5, dtype=torch.float64)  # one image for each channel
    impulses[range(m), range(m), 2, 2] = 1
    assert torch.equal(layer(impulses)[:, :, 2, 2].T, connections(grid, window, out_channels))


@pytest.mark.parametrize(("m", "num_dims", "kept"), [(64, 2, 0.25), (64, 3, 0.25), (128, 4, 1 / 16), (96, 2, 1 / 3)])
def test_every_input_feeds_as_many_outputs_as_each_output_sees(m: int, num_dims: int, kept: float) -> None:
    layer = Subdivided(m, m, 1, bias=False, num_dims=num_dims, kept=kept)
    assert len(layer.grid) == num_dims
    nn.init.ones_(layer.weight)
    fed = layer(torch.eye(m)[:, :, None, None])[:, :, 0, 0]
    assert (fed.sum(0) == math.prod(layer.window)).all()
    assert (fed.sum(1) == math.prod(layer.window)).all()
    assert math.prod(layer.window) == pytest.approx(kept * m)


@pytest.mark.parametrize("geometry", [(1, 1, 0), (1, 2, 0), (1, 2, 1), (3, 2, 1), ((3, 1), 1, (2, 0))])
@pytest.mark.parametrize(("m", "n"), [(12, 12), (12, 24), (5, 8)])
def test_the_whole_window_is_the_dense_convolution(m: int, n: int, geometry) -> None:
    conv = nn.Conv2d(m, n, *geometry).double()
    layer = Subdivided(m, n, *geometry, kept=1.0).double()
    with torch.no_grad():
        layer.weight.copy_(conv.weight)
        layer.bias.copy_(conv.bias)
    x = torch.randn(2, m, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-10)


def test_whole_leading_dimensions_in_another_order_are_dense_too() -> None:
    conv = nn.Conv2d(12, 12, 1, bias=False).double()
    layer = Subdivided(12, 12, 1, bias=False, grid=(3, 4), window=(3, 4)).double()
    layer.weight.data.copy_(conv.weight)
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", [1, 3])
def test_costs_its_formula(kernel: int) -> None:
    cost = count(Subdivided(64, 128, kernel, 2, kernel // 2, bias=False), (64, 14, 14))
    assert cost.params == kernel**2 * 128 * 16
    assert cost.macs == 7 * 7 * cost.params


def test_refusals_name_the_argument_and_the_nearest() -> None:
    for arguments, knobs, message in [
        ((3, 64, 1), {}, "in_channels=3 shares with out_channels=64 the divisor 1, .* 0.25 .*; nearest: 4"),
        ((8, 8, 1, 1, 0, 1, 2), {}, "groups=2: .* nearest: 1"),
        ((8, 8, 1), {"kept": 0.0}, "kept=0.0: .* nearest: 0.25"),
        ((8, 8, 1), {"num_dims": 1}, "num_dims=1: .* nearest: 2"),
        ((8, 8, 1), {"grid": [2, 4]}, r"grid=\[2, 4\] and window=None go together"),
        (
            (8, 8, 1),
            {"grid": [3, 4], "window": [1, 4]},
            r"grid=\(3, 4\): its product must be in_channels=8 .* nearest:",
        ),
        ((8, 8, 1), {"grid": [2, 4], "window": [3, 4]}, r"window=\(3, 4\): one number from 1 to its size"),
        ((8, 12, 1), {"grid": [2, 4], "window": [1, 3]}, r"window=\(1, 3\): .* nearest: \(1, 4\)"),
        ((16, 4, 1), {"grid": [2, 8], "window": [1, 2]}, r"window=\(1, 2\): leaves inputs unseen; nearest: \(1, 4\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            Subdivided(*arguments, **knobs)

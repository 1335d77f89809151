"""Topological subdivision: Algorithm 4 of arXiv:1608.04337 written out, the dense special case, the choices."""

import itertools
import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.cost import count
from models.layers.subdivided import Subdivided

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"subdivided": lambda m, n, taps, groups: groups > 1 or math.gcd(m, n) == 1}

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


@pytest.mark.parametrize(("grid", "window", "out_channels"), GRIDS)
def test_the_dense_weight_computes_the_same(grid, window, out_channels: int) -> None:
    m = math.prod(grid)
    for kernel, stride, padding in ((1, 2, 1), (3, 1, 2)):
        layer = Subdivided(m, out_channels, kernel, stride, padding, grid=grid, window=window).double()
        x = torch.randn(2, m, 6, 5, dtype=torch.float64)
        torch.testing.assert_close(F.conv2d(x, layer.dense_weight(), layer.bias, stride, padding), layer(x))


CHOSEN = [
    (64, 2, 0.25),
    (96, 2, 1 / 3),
    (64, 3, 0.25),
    (96, 3, 1 / 8),
    (256, 3, 1 / 16),
    (128, 4, 1 / 8),
    (54, 4, 8 / 27),
]


@pytest.mark.parametrize(("m", "num_dims", "kept"), CHOSEN)
def test_every_input_feeds_as_many_outputs_as_each_output_sees(m: int, num_dims: int, kept: float) -> None:
    layer = Subdivided(m, m, 1, bias=False, num_dims=num_dims, kept=kept)
    nn.init.ones_(layer.weight)
    fed = layer(torch.eye(m)[:, :, None, None])[:, :, 0, 0]
    assert (fed.sum(0) == math.prod(layer.window)).all()
    assert (fed.sum(1) == math.prod(layer.window)).all()
    assert math.prod(layer.window) == pytest.approx(kept * m)


def grids(m: int, n: int, num_dims: int) -> list[tuple[int, ...]]:
    """Every grid of `m` inputs and `n` outputs whose leading dimensions have at most 32 channels, 64 together."""
    leading = [sizes for sizes in itertools.product(range(2, 33), repeat=num_dims - 1) if math.prod(sizes) <= 64]
    shared = [sizes for sizes in leading if m % math.prod(sizes) == n % math.prod(sizes) == 0]
    return [(*sizes, m // math.prod(sizes)) for sizes in shared if math.prod(sizes) < min(m, n)]


@pytest.mark.parametrize("kept", [1 / 16, 1 / 8, 0.25, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("m", "n"), [(64, 64), (64, 256), (128, 64), (96, 96), (240, 40), (512, 2048), (54, 54)])
@pytest.mark.parametrize("num_dims", [2, 3, 4])
def test_each_dimension_is_real_and_the_fraction_the_nearest(num_dims: int, m: int, n: int, kept: float) -> None:
    """At least two channels each, a window of two or more in those that are walked, and no other comes nearer."""
    fractions = [
        math.prod(window) / math.prod(grid[:-1])
        for grid in grids(m, n, num_dims)
        for window in itertools.product(*(range(2, size) for size in grid[:-1]))
    ]
    if not fractions:
        with pytest.raises(ValueError, match=f"in_channels={m} shares with out_channels={n} .* {num_dims} dimensions"):
            Subdivided(m, n, 1, num_dims=num_dims, kept=kept)
        return
    layer = Subdivided(m, n, 1, bias=False, num_dims=num_dims, kept=kept)
    assert len(layer.grid) == num_dims
    assert min(layer.grid) > 1
    assert n // math.prod(layer.grid[:-1]) > 1
    assert layer.window[-1] == layer.grid[-1]
    assert all(1 < c < d for c, d in zip(layer.window[:-1], layer.grid[:-1], strict=True))
    fraction = math.prod(layer.window) / m
    assert abs(fraction - kept) == min(abs(other - kept) for other in fractions)
    assert count(layer, (m, 5, 5)).macs == 25 * n * math.prod(layer.window)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("m", "n", "num_dims"), [(36, 72, 3), (64, 32, 3), (54, 108, 4), (128, 128, 4)])
def test_the_chosen_grid_connects_by_the_papers_rule(m: int, n: int, num_dims: int, kernel: int) -> None:
    layer = Subdivided(m, n, kernel, padding=kernel // 2, bias=False, num_dims=num_dims).double()
    nn.init.ones_(layer.weight)
    impulses = torch.zeros(m, m, 3, 3, dtype=torch.float64)
    impulses[range(m), range(m), 1, 1] = 1
    assert torch.equal(layer(impulses)[:, :, 1, 1].T, connections(layer.grid, layer.window, n))


@pytest.mark.parametrize(("m", "num_dims"), [(64, 3), (128, 4)])
def test_everything_kept_is_dense_on_a_real_grid_too(m: int, num_dims: int) -> None:
    layer = Subdivided(m, m, 1, bias=False, num_dims=num_dims, kept=1.0)
    assert layer.window == layer.grid
    assert min(layer.grid) > 1
    x = torch.randn(2, m, 3, 3)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight))


WIDTHS = [(16, 16, 3), (64, 64, 4), (40, 240, 4), (64, 96, 4), (3, 64, 2), (2, 2, 2)]


@pytest.mark.parametrize(("m", "n", "num_dims"), WIDTHS)
def test_the_nearest_width_works(m: int, n: int, num_dims: int) -> None:
    with pytest.raises(ValueError, match=f"in_channels={m} .* nearest: ") as refusal:
        Subdivided(m, n, 1, num_dims=num_dims)
    nearest = int(re.search(r"nearest: (\d+)", str(refusal.value)).group(1))
    Subdivided(nearest, nearest if m == n else n, 1, num_dims=num_dims)
    for closer in range(max(1, m - abs(nearest - m) + 1), m + abs(nearest - m)):
        with pytest.raises(ValueError, match=r"divisor|kept"):
            Subdivided(closer, closer if m == n else n, 1, num_dims=num_dims)


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
        ((8, 8, 1), {"num_dims": 5}, "num_dims=5: .* nearest: 4"),
        ((64, 10, 1), {"num_dims": 3}, "grid of 3 dimensions .*; nearest: num_dims=2, kept=1"),
        ((64, 12, 1), {"num_dims": 4}, "grid of 4 dimensions .*; nearest: num_dims=2$"),
        ((16, 16, 1), {"grid": [5], "window": [5]}, r"grid=\(5,\): its product .* nearest: \(16,\)"),
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

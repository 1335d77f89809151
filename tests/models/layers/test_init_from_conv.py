"""Layers that start from a convolution: equal to it where they can express it, and nearer to it than at random."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from models.layers.bases import Bases
from models.layers.bottleneck import Bottleneck
from models.layers.fire import Fire
from models.layers.ghost import Ghost
from models.layers.grouped import Grouped
from models.layers.lccl import LCCL
from models.layers.separable import Separable
from models.layers.sic import SIC
from models.layers.spatial_bottleneck import SpatialBottleneck
from models.layers.subdivided import Subdivided
from tests.conftest import choices

GEOMETRIES = [
    (8, 8, 3, 1, 1, 1, 1, True),
    (8, 16, 3, 2, 1, 1, 1, False),
    (8, 12, (3, 5), (2, 1), (1, 2), 1, 1, True),
    (16, 8, 3, 1, 2, 2, 1, False),
]


def start(layer: Callable[..., Any], conv: nn.Conv2d, geometry: tuple) -> Any:
    """`layer` in the place of `conv`, in evaluation."""
    made = layer(*geometry).double().eval()
    made.init_from_conv(conv.weight.detach(), None if conv.bias is None else conv.bias.detach())
    return made


def plain(geometry: tuple, weight: Tensor | None = None) -> nn.Conv2d:
    conv = nn.Conv2d(*geometry).double()
    if weight is not None:
        conv.weight.data = weight.double()
    return conv


def images(channels: int) -> Tensor:
    return torch.rand(4, channels, 11, 14, dtype=torch.float64)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        partial(Bases, num_bases=16),
        partial(Grouped, cardinality=1),
        partial(Subdivided, kept=1.0),
        partial(Bottleneck, reduction=1.0),
        partial(Fire, squeeze_ratio=1.0),
    ],
    ids=lambda layer: layer.func.__name__,
)
def test_layers_that_can_express_it_are_equal(layer, geometry) -> None:
    m, n, *_ = geometry
    directions = torch.randn(min(m, n) // 2, m)  # half as many as channels: a ReLU needs two channels for each
    weight = torch.einsum("no,oikl,im->nmkl", torch.randn(n, len(directions)), _core(geometry, directions), directions)
    if layer.func is Fire:  # half of its outputs see the centres alone
        centres = torch.zeros_like(weight[: n // 2])
        rows, columns = (size // 2 for size in weight.shape[2:])
        centres[:, :, rows, columns] = weight[: n // 2, :, rows, columns]
        weight = torch.cat([centres, weight[n // 2 :]])
    conv = plain(geometry, weight)
    x = images(m) - 0.5
    torch.testing.assert_close(
        start(layer, conv, geometry)(x), conv(x), rtol=2e-5, atol=1e-4
    )  # BatchNorm has an epsilon


def _core(geometry: tuple, directions: Tensor) -> Tensor:
    return torch.randn(len(directions), len(directions), *nn.Conv2d(*geometry).kernel_size)


def test_bases_are_complete_with_as_many_as_outputs() -> None:
    geometry = (8, 4, 3, 1, 1, 1, 2, False)  # two outputs a group, fewer than nine taps
    conv, x = plain(geometry), images(8)
    torch.testing.assert_close(start(partial(Bases, num_bases=2), conv, geometry)(x), conv(x))
    made = start(partial(Bases, num_bases=5), conv, geometry)
    torch.testing.assert_close(made(x), conv(x))
    made(x).square().sum().backward()
    assert made.project.weight.grad.flatten(1).any(0).all()  # the spare ones can learn


def test_ghosts_that_are_multiples_are_equal() -> None:
    geometry = (8, 7, 3, 1, 1, 1, 1, True)
    first = torch.randn(4, 8, 3, 3)
    conv, x = plain(geometry, torch.cat([first, 2 * first[:3]])), images(8)
    torch.testing.assert_close(start(Ghost, conv, geometry)(x), conv(x))


@pytest.mark.parametrize(("depth", "size"), [(1, None), (3, 5)])
def test_sic_is_equal_but_for_its_relu(depth: int, size: int | None) -> None:
    geometry = (8, 8, 3, 1, 1, 1, 1, False)
    basis = torch.einsum("nm,mkl->nmkl", torch.randn(8, 8), torch.randn(8, 3, 3))
    basis[range(8), range(8), 1, 1] += 1  # the residual link
    conv, x = plain(geometry, basis), images(8)
    made = start(partial(SIC, depth=depth, depthwise_kernel_size=size), conv, geometry)
    torch.testing.assert_close(made(x), torch.relu(conv(x)), rtol=0, atol=1e-3)
    made.fit_to(x, conv(x))
    assert _error(made(x), conv(x)) < 0.02


def test_separable_is_equal_where_its_relu_cuts_nothing() -> None:
    geometry = (8, 12, 3, 2, 1, 1, 1, False)
    conv = plain(geometry, torch.einsum("nm,mkl->nmkl", torch.randn(12, 8), torch.rand(8, 3, 3)))
    x = images(8)
    torch.testing.assert_close(start(Separable, conv, geometry)(x), conv(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_spatial_bottleneck_returns_the_mean_over_its_positions(geometry) -> None:
    """Where all taps but the centre are zero, its window sees all that the mean is made of."""
    m, n, *_ = geometry
    weight = torch.zeros_like(nn.Conv2d(*geometry).weight)
    rows, columns = (size // 2 for size in weight.shape[2:])
    weight[:, :, rows, columns] = torch.randn(n, m)
    conv, x = plain(geometry, weight), images(m)
    y = start(partial(SpatialBottleneck, reduction=2), conv, geometry)(x)
    mean = nn.functional.avg_pool2d(conv(x), 2)
    whole = y[:, :, ::2, ::2][:, :, : mean.shape[2], : mean.shape[3]]
    torch.testing.assert_close(whole, mean)


def test_lccl_keeps_its_convolution_and_opens_where_it_responds() -> None:
    geometry = (8, 8, 3, 1, 1, 1, 1, False)
    conv, x = plain(geometry), images(8)
    made = start(LCCL, conv, geometry)
    torch.testing.assert_close(made.conv(x), conv(x), rtol=0, atol=1e-4)
    made.fit_to(x, conv(x))
    centred = conv(x) - conv(x).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(made.conv(x), centred, rtol=0, atol=1e-4)
    assert 0 < made.gate(x).eq(0).double().mean() < 0.7


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("name", choices("model/layer"))
def test_every_start_is_nearer_than_none_and_its_fit_nearer(composed, name: str, geometry) -> None:
    layer = instantiate(composed(f"model/layer={name}").model.layer, _convert_="all")
    try:
        layer(*geometry)
    except ValueError:
        return
    if not hasattr(layer.func, "init_from_conv") or name == "lccl_published":  # whose gate is not fitted
        return
    conv = plain(geometry)
    x = nn.functional.avg_pool2d(images(geometry[0]), 2, 1)  # neighbours are alike, as in images
    y = conv(x)
    made = start(layer, conv, geometry)
    assert name == "lccl" or _error(made(x), y) < 1.05
    made.fit_to(x, y)
    assert _error(made(x), y) < 0.995 or (name == "lccl" and conv.bias is not None)  # without BatchNorm closed is 0


def _error(output: Tensor, wanted: Tensor) -> float:
    difference, own = (each - each.mean((0, 2, 3), keepdim=True) for each in (output - wanted, wanted))
    return (difference.norm() / own.norm()).item()

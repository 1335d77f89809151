"""The contract of models/layers, for every layer in conf/model/layer: a drop-in for nn.Conv2d."""

import copy
import itertools

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from models.cost import count
from tests.conftest import choices

KERNELS = [(1, 0), (3, 1), (5, 2), (3, 0)]  # kernel size and padding
CASES = list(itertools.product(choices("model/layer"), KERNELS, [1, 2], [(8, 8), (8, 16), (16, 8)]))


@pytest.fixture
def make(composed):
    """make("sic", 8, 16, 3, ...): a layer as its YAML configures it."""

    def make_(layer: str, *arguments) -> nn.Module:
        return instantiate(composed(f"model/layer={layer}").model.layer, _convert_="all")(*arguments)

    return make_


@pytest.mark.parametrize(("layer", "kernel", "stride", "channels"), CASES)
def test_shape_gradients_and_cost(make, layer: str, kernel, stride: int, channels) -> None:
    arguments = (*channels, kernel[0], stride, kernel[1])
    module, conv = make(layer, *arguments), nn.Conv2d(*arguments)
    for size in ((13, 16), (12, 9)):
        x = torch.randn(4, channels[0], *size)
        assert module(x).shape == conv(x).shape
        count(module, x.shape[1:])  # raises where the formulas and the operator counter differ
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("layer", choices("model/layer"))
def test_rectangles_dilation_and_groups(make, layer: str) -> None:
    for arguments in (
        (8, 8, (3, 5), (2, 1), (1, 2)),
        (8, 8, 3, 1, 2, 2),
        (8, 16, 3, 1, 1, 1, 4),
        (8, 8, 3, 1, 1, 1, 8),
    ):
        x = torch.randn(2, 8, 11, 14)
        assert make(layer, *arguments)(x).shape == nn.Conv2d(*arguments)(x).shape


@pytest.mark.parametrize("layer", choices("model/layer"))
def test_saving_copying_and_autocast(make, layer: str) -> None:
    module, other = make(layer, 8, 8, 3, 1, 1).eval(), make(layer, 8, 8, 3, 1, 1).eval()
    x = torch.randn(2, 8, 9, 9)
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(x), other(x))
    assert torch.equal(module(x), copy.deepcopy(module)(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).isfinite().all()

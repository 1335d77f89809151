"""The contract of models/layers, for every layer in conf/model/layer: a drop-in for nn.Conv2d."""

import copy
import functools
import itertools
import math
import re
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from models.cost import count
from tests.conftest import choices

LAYERS = choices("model/layer")
KERNELS = [(1, 0), (3, 1), (5, 2), (3, 0)]  # kernel size and padding
CASES = list(itertools.product(LAYERS, KERNELS, [1, 2], [(8, 8), (8, 16), (16, 8)]))
# Rectangles, dilation, groups, and widths without a common divisor.
UNUSUAL = [
    (8, 8, (3, 5), (2, 1), (1, 2)),
    (8, 8, 3, 1, 2, 2),
    (8, 16, 3, 1, 1, 1, 4),
    (8, 8, 3, 1, 1, 1, 8),
    (3, 64, 7, 2, 3),
    (7, 5, 3, 1, 1, 1, 1, False),
]
REFUSAL = re.compile(r"\w+=.*; nearest: .+")


@pytest.fixture(scope="module")
def configured(composed) -> Callable[[str], functools.partial[nn.Module]]:
    """configured("sic"): the layer as its YAML configures it."""
    return functools.cache(lambda layer: instantiate(composed(f"model/layer={layer}").model.layer, _convert_="all"))


def refuses(layer: str, module: str, conv: nn.Conv2d) -> bool:
    """Whether `layer` of `module` has to refuse to stand for `conv`.

    REFUSES in the test of that module has a rule for each layer that refuses some of the convolutions here; a layer
    without a rule must take them all.
    """
    package, name = module.rsplit(".", 1)
    tests = import_module(f"tests.models.layers.test_{name}") if package == "models.layers" else None
    rule = getattr(tests, "REFUSES", {}).get(layer)
    return bool(rule and rule(conv.in_channels, conv.out_channels, math.prod(conv.kernel_size), conv.groups))


@pytest.fixture
def make(configured):
    """make("sic", 8, 16, 3, ...): a layer as its YAML configures it; None where it refuses, as it has to."""

    def make_(layer: str, *arguments) -> nn.Module | None:
        partial = configured(layer)
        expected = refuses(layer, partial.func.__module__, nn.Conv2d(*arguments))
        try:
            made = partial(*arguments)
        except ValueError as error:
            refusal = str(error)
            assert expected, refusal
            assert REFUSAL.fullmatch(refusal), refusal
            return None
        assert not expected
        return made

    return make_


@pytest.mark.parametrize(("layer", "kernel", "stride", "channels"), CASES)
def test_shape_gradients_and_cost(make, layer: str, kernel, stride: int, channels) -> None:
    arguments = (*channels, kernel[0], stride, kernel[1])
    module, conv = make(layer, *arguments), nn.Conv2d(*arguments)
    if module is None:
        return
    for size in ((12, 9), (13, 16)):
        x = torch.randn(4, channels[0], *size)
        y = module(x)
        assert y.shape == conv(x).shape
    assert count(module, x.shape[1:]).macs_by_operators == 0  # and raises where the two counts of one differ
    y.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_refuses_the_usual_convolution(make, layer: str) -> None:
    assert make(layer, 64, 64, 3, 1, 1, 1, 1, False)
    assert make(layer, 64, 64, 3, 2, 1, 1, 1, True)


@pytest.mark.parametrize("arguments", UNUSUAL, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_unusual_convolutions(make, layer: str, arguments) -> None:
    x = torch.randn(2, arguments[0], 11, 14)
    module = make(layer, *arguments)
    if module is not None:
        assert module(x).shape == nn.Conv2d(*arguments)(x).shape
        assert count(module, x.shape[1:]).macs_by_operators == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_saving_copying_and_autocast(make, layer: str) -> None:
    module, other = make(layer, 16, 16, 3, 1, 1).eval(), make(layer, 16, 16, 3, 1, 1).eval()
    x = torch.randn(2, 16, 9, 9)
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(x), other(x))
    assert module(x[:0]).shape == module(x)[:0].shape
    assert torch.equal(module(x), copy.deepcopy(module)(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_memory_format_changes_nothing(make, layer: str) -> None:
    module = make(layer, 16, 16, 3, 2, 1).eval()
    x = torch.randn(2, 16, 9, 9)
    expected = module(x)
    module.to(memory_format=torch.channels_last)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), expected)

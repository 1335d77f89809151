"""The worked examples of the compact-filter survey that this project began with; parameters, biases included."""

import pytest
from torch import nn

from models.layers.fire import Fire
from models.layers.separable import Separable
from models.layers.shuffle_unit import ShuffleUnit


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_128_to_128_channels() -> None:
    conv, fire, separable = (layer(128, 128, 3, padding=1) for layer in (nn.Conv2d, Fire, Separable))
    assert (parameters(conv), parameters(fire), parameters(separable)) == (147_584, 12_432, 17_792)
    assert parameters(fire) / parameters(conv) == pytest.approx(0.084, abs=5e-4)
    assert parameters(separable) / parameters(conv) == pytest.approx(0.12, abs=5e-3)


def test_240_to_240_channels() -> None:
    """The survey's 20,160 needs a bottleneck of 80 and counts one bias vector, the last convolution's 240."""
    conv = nn.Conv2d(240, 240, 3, padding=1)
    unit = ShuffleUnit(240, 240, 3, padding=1, cardinality=2, reduction=3)
    biases = [parameter.numel() for name, parameter in unit.named_parameters() if name.endswith("bias")]
    assert biases == [80, 80, 240]
    one_bias = parameters(unit) - biases[0] - biases[1]
    assert (parameters(conv), one_bias, parameters(unit)) == (518_640, 20_160, 20_320)
    assert one_bias / parameters(conv) == pytest.approx(0.04, abs=2e-3)

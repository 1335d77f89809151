"""Fire: both expansions as one convolution of the squeezed map, the published parameter counts, its limits."""

import math

import pytest
import torch
from torch.nn import functional as F

from models.cost import count
from models.layers.fire import Fire

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"fire": lambda m, n, taps, groups: groups > 1}

GEOMETRIES = [(3, 1, 1), (3, 2, 1), (3, 1, 0), (5, 2, 2), (1, 2, 0), (2, 1, 0), (4, 2, 1), (3, 1, 2, 2)]
SQUEEZENET = [  # fire2 to fire9 of version 1.0
    (96, 128, 11_920),
    (128, 128, 12_432),
    (128, 256, 45_344),
    (256, 256, 49_440),
    (256, 384, 104_880),
    (384, 384, 111_024),
    (384, 512, 188_992),
    (512, 512, 197_184),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("outputs", [6, 7])
def test_the_pointwise_expansion_sees_the_centre_of_each_window(geometry, outputs: int) -> None:
    layer = Fire(4, outputs, *geometry, squeeze_ratio=0.5).double()
    x = torch.randn(2, 4, 12, 15, dtype=torch.float64)
    kernel, stride, padding = geometry[:3]
    dilation = geometry[3] if len(geometry) == 4 else 1
    reach = dilation * (kernel - 1)
    weight = torch.zeros(outputs, layer.squeeze.out_channels, reach + 1, reach + 1, dtype=torch.float64)
    weight[:3, :, math.ceil(reach / 2), math.ceil(reach / 2)] = layer.expand_1x1.weight[:, :, 0, 0]
    weight[3:, :, ::dilation, ::dilation] = layer.expand.weight
    bias = torch.cat((layer.expand_1x1.bias, layer.expand.bias))
    expected = F.conv2d(F.relu(layer.squeeze(x)), weight, bias, stride, padding)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("inputs", "outputs", "params"), SQUEEZENET)
def test_has_the_parameters_of_squeezenet(inputs: int, outputs: int, params: int) -> None:
    assert sum(p.numel() for p in Fire(inputs, outputs, 3, padding=1).parameters()) == params


def test_costs_its_formula() -> None:
    assert count(Fire(16, 32, 3, 2, 1), (16, 8, 8)).macs == 64 * 16 * 4 + 16 * 4 * (16 + 9 * 16)


def test_normalises_the_squeeze_where_the_network_does() -> None:
    assert len(list(Fire(16, 32, 3, bias=False).buffers())) == 3
    assert len(list(Fire(16, 32, 3, bias=True).buffers())) == 0


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="squeeze_ratio=0: .* nearest: 0.125"):
        Fire(4, 4, 3, squeeze_ratio=0)
    with pytest.raises(ValueError, match="squeeze_ratio=2: .* nearest: 1"):
        Fire(4, 4, 3, squeeze_ratio=2)
    with pytest.raises(ValueError, match="out_channels=1: .* nearest: 2"):
        Fire(4, 1, 3)
    with pytest.raises(ValueError, match="groups=4: .* nearest: 1"):
        Fire(4, 4, 3, groups=4)

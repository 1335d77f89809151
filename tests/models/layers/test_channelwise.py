"""Channel-wise convolutions: as the banded 1x1 convolutions they are, their published counts, their limits."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.cost import count
from models.layers.channelwise import ChannelConv, ChannelWise, GroupChannelWise

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {
    "channelwise": lambda m, n, taps, groups: groups > 1 or m % n,
    "group_channelwise": lambda m, n, taps, groups: groups > 1 or m % 2 or n % 2,
}


def along_channels(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """TensorFlow's SAME: x (N, C, H, W), weight (kernels, length) -> the maps of each kernel, kernel by kernel."""
    channels, length = x.shape[1], weight.shape[1]
    before = (length - stride) // 2
    band = torch.zeros(weight.shape[0], channels // stride, channels, dtype=x.dtype)
    for output in range(channels // stride):
        for tap in range(length):
            channel = output * stride + tap - before
            if 0 <= channel < channels:
                band[:, output, channel] = weight[:, tap]
    return F.conv2d(x, band.flatten(0, 1)[:, :, None, None])


@pytest.mark.parametrize(("outputs", "length"), [(24, 7), (24, 8), (24, 64), (8, 5), (12, 64)])
def test_channelwise_is_a_banded_projection(outputs: int, length: int) -> None:
    layer = ChannelWise(24, outputs, 3, 2, 1, bias=False, length=length).double()
    depthwise, channels = layer
    assert channels.conv.kernel_size == (min(length, 24),)
    x = torch.randn(2, 24, 7, 10, dtype=torch.float64)
    expected = along_channels(depthwise(x), channels.conv.weight[:, 0], 24 // outputs)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("cardinality", "length"), [(1, 8), (2, 8), (4, 16), (2, 5), (3, 64)])
def test_each_kernel_makes_a_group_that_hears_all_groups(cardinality: int, length: int) -> None:
    layer = GroupChannelWise(12, 24, 3, 2, 1, bias=False, cardinality=cardinality, length=length).double()
    depthwise, project, channels = layer
    x = torch.randn(2, 12, 7, 10, dtype=torch.float64)
    expected = along_channels(project(depthwise(x)), channels.conv.weight[:, 0], cardinality)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_the_papers_512_maps_in_two_groups() -> None:
    layer = ChannelConv(512, kernels=2, length=8, stride=2, bias=False)
    assert (layer.conv.weight.numel(), layer.margins) == (16, (3, 3))
    assert layer(torch.randn(1, 512, 2, 2)).shape == (1, 512, 2, 2)


def test_parameters_and_macs_are_the_papers() -> None:
    cost = count(ChannelWise(1024, 1024, 3, padding=1, bias=False), (1024, 7, 7))
    assert (cost.params, cost.macs) == (9 * 1024 + 64, 49 * (9 * 1024 + 64 * 1024))
    cost = count(GroupChannelWise(256, 512, 3, padding=1, bias=False), (256, 14, 14))
    assert cost.params == 9 * 256 + 256 * 512 // 2 + 8 * 2
    assert cost.macs == 196 * (9 * 256 + 256 * 512 // 2 + 8 * 512)


def test_keeps_channels_last() -> None:
    x = torch.randn(2, 16, 6, 7).to(memory_format=torch.channels_last)
    assert ChannelWise(16, 16, 3, padding=1)(x).is_contiguous(memory_format=torch.channels_last)


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="out_channels=11 must divide in_channels=24; nearest: 12"):
        ChannelWise(24, 11, 3)
    with pytest.raises(ValueError, match="length=0: .* nearest: 1"):
        ChannelWise(24, 24, 3, length=0)
    with pytest.raises(ValueError, match="length=3: with stride 4 .* nearest: 4"):
        GroupChannelWise(24, 24, 3, cardinality=4, length=3)
    with pytest.raises(ValueError, match="cardinality=5 must divide in_channels=24 and out_channels=16; nearest: 4"):
        GroupChannelWise(24, 16, 3, cardinality=5)
    for layer in (ChannelWise, GroupChannelWise):
        with pytest.raises(ValueError, match="groups=24: .* nearest: 1"):
            layer(24, 24, 3, groups=24)

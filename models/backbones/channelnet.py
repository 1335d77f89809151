"""ChannelNets: MobileNet with fewer connections between channels."""

import math
from typing import Literal

from torch import Tensor, nn

from ..geometry import nearest_divisor
from ..layers.ccl import CCL
from ..layers.channelwise import ChannelConv, ChannelWise
from . import SMALL_INPUT, require_room


def channelnet(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    version: Literal["v1", "v2", "v3"] = "v1",
    width: float = 1.0,
    groups: int = 2,
) -> nn.Module:
    """ChannelNet-v1, -v2 or -v3 with `width` times the paper's channels.

    Source: Gao, Wang, Ji 2018, "ChannelNets", arXiv:1809.01330, section 3.6. The network of the paper: the authors'
    released code concatenates where the paper feeds forward. v1 puts modules of 1x1 convolutions in `groups` into
    MobileNet, two of three with kernels of 4 x `groups` along the channels, as in the code; v2 also replaces the
    last 1x1 by one kernel along the channels, without BatchNorm, and v3 the classifier by a convolution (CCL).
    Up to 64 px the stem has stride 1; 17 px leave 2 x 2.
    Differs: no dropout of 0.0001.
    """
    channels = [int(c * width) for c in (32, 64, 128, 128, 256, 256, 512)]
    middle, last = channels[-1], int(1024 * width)
    _require_fit(num_classes, input_size, version, width, groups, middle, last)
    stem_stride = 1 if input_size <= SMALL_INPUT else 2
    stem = nn.Conv2d(in_channels, channels[0], 3, stem_stride, padding=1, bias=False)
    strides = (1, 2, 1, 2, 1, 2)
    return nn.Sequential(
        nn.Sequential(stem, *_normed(channels[0])),
        *(_separable(*sizes) for sizes in zip(channels, channels[1:], strides, strict=False)),
        _group_module(middle, groups, fuse=True),
        _group_module(middle, groups, fuse=True),
        _group_module(middle, groups, fuse=False),
        _separable(middle, last, stride=2),
        _separable(last, last) if version == "v1" else _channelwise(last),
        *_head(last, num_classes, math.ceil(input_size / (16 * stem_stride)), version),
    )


class Residual(nn.Module):
    """x + branch(x): (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _group_module(channels: int, groups: int, fuse: bool) -> nn.Module:
    """The paper's GM, or with `fuse` its GCWM, whose kernels along the channels connect each group to all others."""
    parts = [ChannelConv(channels, groups, length=4 * groups, stride=groups, bias=False)] if fuse else []
    return Residual(*parts, *(_separable(channels, channels, groups=groups) for _ in range(2)))


def _separable(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Depthwise 3x3 and 1x1 with nothing between them."""
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False), *_normed(outputs))


def _channelwise(channels: int) -> nn.Module:
    """Depthwise 3x3 and one kernel of 64 along the channels."""
    return nn.Sequential(ChannelWise(channels, channels, 3, padding=1, bias=False, length=64), nn.ReLU6())


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU6()


def _head(channels: int, num_classes: int, size: int, version: str) -> list[nn.Module]:
    if version == "v3":
        return [CCL(channels, num_classes, size)]
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def _require_fit(
    num_classes: int, input_size: int, version: str, width: float, groups: int, middle: int, last: int
) -> None:
    require_room(input_size, 17, "four halvings")
    if width < 1 / 32:
        raise ValueError(f"width={width:g}: must leave the stem of 32 channels one; nearest: {1 / 32}")
    if groups < 1 or middle % groups:
        raise ValueError(
            f"groups={groups} must divide the {middle} channels of width={width:g}; "
            f"nearest: {nearest_divisor(middle, groups)}"
        )
    if version == "v3" and last < num_classes:
        raise ValueError(
            f"width={width:g}: v3 needs a channel a class, but has {last} for {num_classes}; "
            f"nearest: {math.ceil(num_classes / 1024 * 1000) / 1000:g}"
        )

"""The branch of a ShuffleNet unit: grouped 1x1 convolutions with a channel shuffle between them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import nearest_divisor


class ShuffleUnit(nn.Module):
    """1x1 in groups, ReLU, channel shuffle, depthwise k x k, 1x1 in groups; out_channels / `reduction` inside.

    Source: Zhang, Zhou, Lin, Sun 2018, "ShuffleNet", arXiv:1707.01083, figure 2(b) without the addition.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs, with r = n / reduction: H W m r / cardinality (the first 1x1 runs at input size) +
    H' W' (k^2 r + r n / cardinality).
    Differs: the paper normalises the end of the branch and adds the input, which the network does itself. At stride 2
    the paper puts the pooled input beside n - m outputs; here the branch makes all n. `bias` replaces BatchNorm.
    """

    budget_knob = ("reduction", (1, 2, 4, 8, 16))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        cardinality: int = 2,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"groups={groups}: the unit shuffles its own groups (cardinality); nearest: 1")
        common = math.gcd(in_channels, out_channels)
        if cardinality < 1 or common % cardinality:
            raise ValueError(
                f"cardinality={cardinality} must divide in_channels={in_channels} and out_channels={out_channels}; "
                f"nearest: {nearest_divisor(common, cardinality)}"
            )
        each = out_channels // cardinality
        if reduction < 1 or each % reduction:
            raise ValueError(
                f"reduction={reduction} must divide out_channels / cardinality = {each}; "
                f"nearest: {nearest_divisor(each, reduction)}"
            )
        inner = out_channels // reduction
        self.cardinality = cardinality
        self.reduce = nn.Conv2d(in_channels, inner, 1, groups=cardinality, bias=bias)
        self.reduce_norm = nn.Identity() if bias else nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, kernel_size, stride, padding, dilation, inner, bias)
        self.depthwise_norm = nn.Identity() if bias else nn.BatchNorm2d(inner)
        self.restore = nn.Conv2d(inner, out_channels, 1, groups=cardinality, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.reduce_norm(self.reduce(x)))
        y = F.channel_shuffle(y, self.cardinality)
        return self.restore(self.depthwise_norm(self.depthwise(y)))

"""ShuffleNet v1: grouped 1x1 convolutions and a channel shuffle.

Source: Zhang, Zhou, Lin, Sun 2018, "ShuffleNet", arXiv:1707.01083, table 1 and figure 2.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import SMALL_INPUT, require_room

WIDTHS = {  # channels of the three stages, by the number of groups; each network has about 140 M MACs
    1: (144, 288, 576),
    2: (200, 400, 800),
    3: (240, 480, 960),
    4: (272, 544, 1088),
    8: (384, 768, 1536),
}
STEM, UNITS = 24, (4, 8, 4)


def shufflenetv1(
    num_classes: int = 1000, input_size: int = 224, in_channels: int = 3, *, groups: int = 3, scale: float = 1.0
) -> nn.Module:
    """`groups` groups in each 1x1 convolution but the first; every width, the stem's included, times `scale`.

    For inputs of at most 64 px the stem has stride 1 and no pooling.
    Differs: scaled widths are made multiples of `groups`, the stages' downwards and the stem's upwards, which the
    paper's own 0.5 x and 0.25 x with 2, 4 and 8 groups need.
    """
    if groups not in WIDTHS:
        nearest = min(WIDTHS, key=lambda known: abs(known - groups))
        raise ValueError(f"groups={groups}: the widths are known for {', '.join(map(str, WIDTHS))}; nearest: {nearest}")
    if scale * STEM < 1:
        raise ValueError(f"scale={scale}: the stem's {STEM} channels must leave one; nearest: {1 / STEM:.4f}")
    require_room(input_size, 9, "three halvings")
    stem = -(-int(STEM * scale) // groups) * groups
    widths = [stem, *(_multiple(int(width * scale), groups) for width in WIDTHS[groups])]
    stages = []
    for units, (before, width) in zip(UNITS, pairwise(widths), strict=True):
        # The first unit sees only the stem's few channels, all of them at once.
        stage = [ShuffleNetUnit(before, width, groups, 1 if before == stem else groups)]
        stage += [ShuffleNetUnit(width, width, groups, groups) for _ in range(units - 1)]
        stages.append(nn.Sequential(*stage))
    small = input_size <= SMALL_INPUT
    return nn.Sequential(
        nn.Conv2d(in_channels, stem, 3, 1 if small else 2, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], num_classes),
    )


class ShuffleNetUnit(nn.Module):
    """Figure 2(b), or 2(c), which halves the size, where the width grows: (N, C, H, W) -> (N, out_channels, H', W').

    The pooled input of 2(c) makes the last `in_channels` of its outputs, the branch the others.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, first_groups: int) -> None:
        super().__init__()
        self.groups = groups
        grows = out_channels > in_channels
        inner = _multiple(out_channels // 4, groups)
        outer = out_channels - in_channels if grows else out_channels
        self.reduce = nn.Conv2d(in_channels, inner, 1, groups=first_groups, bias=False)
        self.reduce_norm = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, 2 if grows else 1, padding=1, groups=inner, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(inner)
        self.restore = nn.Conv2d(inner, outer, 1, groups=groups, bias=False)
        self.restore_norm = nn.BatchNorm2d(outer)
        self.pool = nn.AvgPool2d(3, 2, padding=1) if grows else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.reduce_norm(self.reduce(x)))
        y = F.channel_shuffle(y, self.groups)
        y = self.restore_norm(self.restore(self.depthwise_norm(self.depthwise(y))))
        return torch.relu(torch.cat((y, self.pool(x)), dim=1) if self.pool else x + y)


def _multiple(channels: int, groups: int) -> int:
    """The largest multiple of `groups` that is not above `channels`, at least one."""
    return max(channels // groups, 1) * groups

"""ShiftNet: 1x1 convolutions around a shift, for ImageNet.

Source: Wu et al. 2018, "Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions", arXiv:1711.08141,
section 4.3: ShiftNet-A has width 1, ShiftNet-B 0.5.
"""

import torch
from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..layers.shift import Displace
from . import SMALL_INPUT, require_room

STEM = 32
# For each group: its width relative to the stem's, its modules, their shift kernel, their expansion in the first module
# and in the others.
GROUPS = ((2, 5, 5, 4, 4), (4, 6, 5, 4, 3), (8, 7, 3, 3, 2), (16, 3, 3, 2, 1))
NARROWEST = 7  # channels of the stem from which on the first 5 x 5 shift has a channel for each place


def shiftnet(num_classes: int = 1000, input_size: int = 224, in_channels: int = 3, *, width: float = 1.0) -> nn.Module:
    """Four groups of modules at 64, 128, 256 and 512 channels times `width`, each of which halves the size once.

    For inputs of at most 64 px the stem is 3x3 instead of 7x7, and neither it nor the first group halves.
    """
    stem = round(STEM * width)
    if stem < NARROWEST:
        raise ValueError(
            f"width={width}: the first 5x5 shift needs a channel for each place; nearest: {NARROWEST / STEM}"
        )
    require_room(input_size, 9, "three halvings")
    small = input_size <= SMALL_INPUT
    kernel, stride = (3, 1) if small else (7, 2)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, stem, kernel, stride, kernel // 2, bias=False)]
    before = stem
    for multiple, modules, kernel, first, others in GROUPS:
        channels = multiple * stem
        group = [CSC(before, channels, kernel, 1 if small and before == stem else 2, first)]
        group += [CSC(channels, channels, kernel, 1, others) for _ in range(modules - 1)]
        layers.append(nn.Sequential(*group))
        before = channels
    head = [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)]
    return nn.Sequential(*layers, *head)


class CSC(nn.Module):
    """Figure 3, from BatchNorm to convolution: BN, ReLU, 1x1, shift, BN, ReLU, 1x1 with the stride, and the input.

    (N, C, H, W) -> (N, out_channels, H', W'). Where the width grows the input, pooled where there is a stride,
    makes C of the outputs and the branch the others; else it is added. `expansion` is relative to the branch's outputs.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.grows = out_channels > in_channels
        outer = out_channels - in_channels if self.grows else out_channels
        inner = expansion * outer
        window = ((kernel, kernel), (1, 1), (kernel // 2, kernel // 2), (1, 1))
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.expand = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.displace = Displace(ConvGeometry(inner, inner, *window, groups=1, bias=False))
        self.norm2 = nn.BatchNorm2d(inner)
        self.project = nn.Conv2d(inner, outer, 1, stride, bias=False)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.displace(self.expand(torch.relu(self.norm1(x))))
        y = self.project(torch.relu(self.norm2(y)))
        return torch.cat((self.pool(x), y), dim=1) if self.grows else x + y

"""The CIFAR residual networks of 6n + 2 layers.

Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385,
section 4.2: a 3x3 stem of 16 channels, three stages of n basic blocks at 16, 32 and 64 channels, the
second and third at half the resolution, global average pooling and one linear layer.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import require_room


def cifar_resnet(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    depth: int,
    shortcut: Literal["A", "B"] = "A",
) -> nn.Module:
    """A network of `depth` = 6n + 2 layers for images of at least 8 x 8.

    Shortcut A subsamples and pads with zero channels (no parameters, the paper's choice on CIFAR),
    B projects with a strided 1x1 convolution; both only where a stage changes the shape.
    """
    blocks_each = blocks_a_stage(depth)
    require_room(input_size, 8, "two halvings")
    make_shortcut = {"A": PadShortcut, "B": projection_shortcut}[shortcut]
    widths = [16, 16, 32, 64]
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for before, width in pairwise(widths):
        stride = 1 if before == width else 2
        blocks = [BasicBlock(before, width, stride, make_shortcut)]
        blocks += [BasicBlock(width, width, 1, make_shortcut) for _ in range(blocks_each - 1)]
        layers.append(nn.Sequential(*blocks))
    return CifarResNet(layers, num_classes)


def blocks_a_stage(depth: int, layers: int = 6, others: int = 2) -> int:
    """n of a network of `depth` = `layers` n + `others` layers; ValueError where there is none."""
    count, rest = divmod(depth - others, layers)
    if count < 1 or rest:
        nearest = max(1, round((depth - others) / layers)) * layers + others
        raise ValueError(f"depth={depth}: such a network has {layers}n + {others} layers; nearest: {nearest}")
    return count


class CifarResNet(nn.Module):
    """Stem, three stages, pooling and classifier: (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, layers: list[nn.Module], num_classes: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act, self.stage1, self.stage2, self.stage3 = layers
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))  # N, 16, H, W
        x = self.stage3(self.stage2(self.stage1(x)))  # N, 64, H/4, W/4
        return self.fc(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x)))))), the first convolution with the stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, make_shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class PadShortcut(nn.Module):
    """Shortcut A: every stride-th pixel, the new channels zero, half of them on either side."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        extra = out_channels - in_channels
        self.channels = (extra // 2, extra - extra // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, *self.channels))


def projection_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Shortcut B: a strided 1x1 convolution and its BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))

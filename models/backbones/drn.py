"""Dilated residual networks C and D; A is a ResNet of timm with output_stride 8 (models/backbones/library.py)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from . import require_room

# The ResNet in the four middle levels, by its depth: the blocks in each level, and whether they are bottlenecks.
BODIES = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True), 101: ((3, 4, 23, 3), True)}
ADDED = {"C": 8, "D": 4}  # layers in the other four levels


def drn(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    variant: Literal["C", "D"],
    depth: int,
) -> nn.Module:
    """DRN-C-26, -42, -58, -109 or DRN-D-22, -38, -54, -105: maps that keep an eighth of the input's resolution.

    Source: Yu, Koltun, Funkhouser 2017, "Dilated Residual Networks", arXiv:1705.09914. Eight levels: two narrow
    ones instead of a max pooling, the four of a ResNet, the last two dilated by 2 and 4 instead of strided, and two
    without shortcuts, dilated by 2 and 1, which remove gridding. The first and last two are of basic blocks in C and of
    single convolutions in D.
    Differs: the authors' code gives the seventh level of C-58 a projection (1.05 M parameters) that it never adds.
    """
    require_room(input_size, 9, "three halvings")
    known = [body + ADDED[variant] for body in BODIES]
    if depth not in known:
        nearest = min(known, key=lambda d: abs(d - depth))
        raise ValueError(f"depth={depth}: DRN-{variant} has {', '.join(map(str, known))} layers; nearest: {nearest}")
    blocks, is_bottleneck = BODIES[depth - ADDED[variant]]
    body = partial(Residual, _bottleneck if is_bottleneck else _basic)
    start, end = {"C": (partial(Residual, _basic), _double), "D": (_single, _single)}[variant]
    levels = zip(
        (start, start, body, body, body, body, end, end),
        (1, 1, *blocks, 1, 1),
        (16, 32, *((4 if is_bottleneck else 1) * width for width in (64, 128, 256, 512)), 512, 512),
        (1, 2, 2, 2, 1, 1, 1, 1),  # strides
        (1, 1, 1, 1, 2, 4, 2, 1),  # dilations
        strict=True,
    )
    layers, before = [nn.Sequential(*_conv(in_channels, 16, 7), nn.ReLU())], 16
    for unit, count, width, stride, dilation in levels:
        first = unit(before, width, stride, dilation)
        layers.append(nn.Sequential(first, *(unit(width, width, 1, dilation) for _ in range(count - 1))))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


class Residual(nn.Module):
    """ReLU(shortcut(x) + branch(x)), a strided 1x1 convolution as shortcut where the shape changes."""

    def __init__(
        self, make_branch: Callable[..., nn.Module], inputs: int, outputs: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.branch = make_branch(inputs, outputs, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.shortcut(x)  # before the branch: scopes go by the order of execution
        return torch.relu(skip + self.branch(x))


def _single(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Module:
    return nn.Sequential(*_conv(inputs, outputs, 3, stride, dilation), nn.ReLU())


def _double(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Module:
    return nn.Sequential(_basic(inputs, outputs, stride, dilation), nn.ReLU())


def _basic(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Module:
    first = _conv(inputs, outputs, 3, stride, dilation)
    return nn.Sequential(*first, nn.ReLU(), *_conv(outputs, outputs, 3, 1, dilation))


def _bottleneck(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Module:
    width = outputs // 4
    spatial = _conv(width, width, 3, stride, dilation)
    return nn.Sequential(*_conv(inputs, width, 1), nn.ReLU(), *spatial, nn.ReLU(), *_conv(width, outputs, 1))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, nn.Module]:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return conv, nn.BatchNorm2d(outputs)

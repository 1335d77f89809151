"""Residual networks with activation before convolution, narrow and wide, for CIFAR."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from . import require_room
from .cifar_resnet import PadShortcut, blocks_a_stage


def preact_resnet(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    depth: int,
    block: Literal["basic", "bottleneck"],
    shortcut: Literal["A", "B"],
) -> nn.Module:
    """A network of `depth` layers: 6n + 2 of basic blocks, 9n + 2 of bottlenecks (164, 1001).

    Source: He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, with the stride
    of a bottleneck in its first 1x1 and a shared activation at the head of each stage, as in the code of Dong et
    al. 2017, arXiv:1703.08651. Shortcut A subsamples and pads with zero channels, B is a strided 1x1
    convolution (the authors' for bottlenecks); both only where a stage changes the shape.
    """
    branch, expansion, convs = {"basic": (_basic, 1, 2), "bottleneck": (_bottleneck, 4, 3)}[block]
    count = blocks_a_stage(depth, 3 * convs, 2)
    make_shortcut = {"A": PadShortcut, "B": _projection}[shortcut]

    def make(inputs: int, outputs: int, stride: int, heads_stage: bool) -> nn.Module:
        same = inputs == outputs and stride == 1
        skip = nn.Identity() if same else make_shortcut(inputs, outputs, stride)
        return PreActBlock(inputs, branch(inputs, outputs, stride), skip, heads_stage)

    widths = [expansion * width for width in (16, 32, 64)]
    return _network(num_classes, input_size, in_channels, widths, count, make)


def wide_resnet(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    depth: int,
    widen_factor: int,
    dropout: float,
) -> nn.Module:
    """WRN-`depth`-`widen_factor`: 6n + 4 layers, `widen_factor` times the channels of a CIFAR ResNet.

    Source: Zagoruyko, Komodakis 2016, "Wide Residual Networks", arXiv:1605.07146. `dropout` stands between the two
    convolutions of each block. A block that changes the shape has a strided 1x1 shortcut and shares its activation.
    """
    if widen_factor < 1:
        raise ValueError(f"widen_factor={widen_factor}: multiplies the channels; nearest: 1")

    def make(inputs: int, outputs: int, stride: int, heads_stage: bool) -> nn.Module:
        same = inputs == outputs
        skip = nn.Identity() if same else _projection(inputs, outputs, stride)
        return PreActBlock(inputs, _basic(inputs, outputs, stride, dropout), skip, not same)

    widths = [widen_factor * width for width in (16, 32, 64)]
    return _network(num_classes, input_size, in_channels, widths, blocks_a_stage(depth, 6, 4), make)


class PreActBlock(nn.Module):
    """shortcut(x) + branch(ReLU(BN(x))), or with a `shared` activation shortcut(ReLU(BN(x))) + ..."""

    def __init__(self, inputs: int, branch: nn.Module, shortcut: nn.Module, shared: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.shortcut, self.branch, self.shared = shortcut, branch, shared

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(x))
        skip = self.shortcut(y if self.shared else x)  # before the branch: scopes go by the order of execution
        return skip + self.branch(y)


class PreActResNet(nn.Module):
    """Stem, stages, norm, pooling and classifier: (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, conv: nn.Module, stages: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.conv = conv
        self.stage1, self.stage2, self.stage3 = stages
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv(x))))  # N, width, H/4, W/4
        return self.fc(torch.relu(self.norm(x)).mean((2, 3)))


def _network(
    num_classes: int, input_size: int, in_channels: int, widths: list[int], count: int, make: Callable[..., nn.Module]
) -> nn.Module:
    """Three stages of `count` blocks, which `make` from their inputs, outputs, stride and place."""
    require_room(input_size, 5, "two halvings")
    stages = []
    for before, width, stride in zip([16, *widths], widths, (1, 2, 2), strict=False):
        blocks = [make(before, width, stride, True), *(make(width, width, 1, False) for _ in range(count - 1))]
        stages.append(nn.Sequential(*blocks))
    return PreActResNet(_conv(in_channels, 16, 3), stages, widths[-1], num_classes)


def _basic(inputs: int, outputs: int, stride: int, dropout: float = 0.0) -> nn.Module:
    parts: dict[str, nn.Module] = {
        "conv1": _conv(inputs, outputs, 3, stride),
        "norm2": nn.BatchNorm2d(outputs),
        "act2": nn.ReLU(),
        "dropout": nn.Dropout(dropout),
        "conv2": _conv(outputs, outputs, 3),
    }
    return nn.Sequential(OrderedDict(parts))


def _bottleneck(inputs: int, outputs: int, stride: int) -> nn.Module:
    width = outputs // 4
    parts: dict[str, nn.Module] = {
        "conv1": _conv(inputs, width, 1, stride),
        "norm2": nn.BatchNorm2d(width),
        "act2": nn.ReLU(),
        "conv2": _conv(width, width, 3),
        "norm3": nn.BatchNorm2d(width),
        "act3": nn.ReLU(),
        "conv3": _conv(width, outputs, 1),
    }
    return nn.Sequential(OrderedDict(parts))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    return _conv(inputs, outputs, 1, stride)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)

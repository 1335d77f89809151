"""Pre-activation residual networks of 6n + 2 layers on the plane (z2) and on the groups p4 and p4m.

Source: Cohen, Welling 2016, "Group Equivariant Convolutional Networks", arXiv:1602.07576, section 8.2, and their
code: blocks of He, Zhang, Ren, Sun 2016, arXiv:1603.05027, biases kept, a strided 1x1 projection of the raw input where
the width changes. NOT invariant to rotation: as in their code the classifier sees each plane of a fibre by itself.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..layers.group_equivariant import ORDER, parts
from . import require_room
from .cifar_resnet import blocks_a_stage

# The paper's widths, with about equal parameters. It has no p4 network: those widths follow its rule, the planar ones
# divided by sqrt(|H|).
WIDTHS = {"z2": (32, 64, 128), "p4": (16, 32, 64), "p4m": (11, 23, 45)}


def group_resnet(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    depth: int = 44,
    group: Literal["z2", "p4", "p4m"] = "z2",
    widths: Sequence[int] | None = None,
) -> nn.Module:
    """A network of `depth` = 6n + 2 layers, its three stages of `widths` channels (p4, p4m: fibres).

    Before the classifier it is equivariant where input_size = 4 j + 1; the paper's own 32 px are not.
    """
    require_room(input_size, 5, "two halvings")
    blocks_each = blocks_a_stage(depth)
    lift, conv, norm = parts(group)
    first, second, third = widths or WIDTHS[group]
    stages = []
    for before, width, stride in ((first, first, 1), (first, second, 2), (second, third, 2)):
        blocks = [PreActBlock(before, width, stride, conv, norm)]
        blocks += [PreActBlock(width, width, 1, conv, norm) for _ in range(blocks_each - 1)]
        stages.append(nn.Sequential(*blocks))
    fc = nn.Linear(third * ORDER.get(group, 1), num_classes)
    return GroupResNet(lift(in_channels, first, 3, padding=1), stages, norm(third), fc)


class GroupResNet(nn.Module):
    """Stem, three stages, norm, pooling over space and classifier: (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, conv: nn.Module, stages: list[nn.Module], norm: nn.Module, fc: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = conv, norm, fc
        self.stage1, self.stage2, self.stage3 = stages

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv(x))))  # N, width, (planes,) H/4, W/4
        x = torch.relu(self.norm(x)).mean((-2, -1))
        return self.fc(x.flatten(1))  # each plane of a fibre by itself


class PreActBlock(nn.Module):
    """shortcut(x) + conv(ReLU(BN(conv(ReLU(BN(x)))))), the first convolution with the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int, conv: Callable, norm: Callable) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = conv(inputs, outputs, 3, stride, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = conv(outputs, outputs, 3, padding=1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(torch.relu(self.norm2(y)))

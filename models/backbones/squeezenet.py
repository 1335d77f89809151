"""SqueezeNet 1.0 and 1.1, plain and with the paper's two bypasses."""

from typing import Literal

import torch
from torch import Tensor, nn

from ..layers.fire import Fire
from . import SMALL_INPUT, require_room

Bypass = Literal["none", "simple", "complex"]

STEMS = {"1.0": (96, 7), "1.1": (64, 3)}  # channels, kernel size
POOLED = {"1.0": (2, 5, 9), "1.1": (2, 4, 6)}  # numbers of the fire modules that follow a pooling
WIDTHS = (128, 128, 256, 256, 384, 384, 512, 512)  # outputs of the fire modules 2 to 9


def squeezenet(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    version: Literal["1.0", "1.1"],
    bypass: Bypass = "none",
) -> nn.Module:
    """Eight fire modules and a classifier that is a 1x1 convolution, its ReLU included; biases, no normalisation.

    Source: Iandola et al. 2016, "SqueezeNet", arXiv:1602.07360, sections 3 and 6; version 1.1 is the authors' own.
    A simple bypass adds the input of each fire module that keeps its width to its output; a complex one also
    projects the input of the others by a 1x1 convolution.
    CIFAR form, at most 64 px: the stem is 3x3 with stride 1 and the pooling behind it is left out.
    """
    require_room(input_size, 8, "two poolings")
    inputs, kernel_size = STEMS[version]
    small = input_size <= SMALL_INPUT
    stem = nn.Conv2d(in_channels, inputs, 3, padding=1) if small else nn.Conv2d(in_channels, inputs, kernel_size, 2)
    body: list[nn.Module] = [stem, nn.ReLU()]
    for number, outputs in enumerate(WIDTHS, start=2):
        if number in POOLED[version] and not (small and number == 2):
            body.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        body.append(FireModule(inputs, outputs, _shortcut(inputs, outputs, bypass)))
        inputs = outputs
    head = (nn.Dropout(0.5), nn.Conv2d(inputs, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, *head)


class FireModule(nn.Module):
    """ReLU(fire(x)), plus shortcut(x) where there is one: (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.fire = Fire(inputs, outputs, 3, padding=1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.fire(x))
        return y if self.shortcut is None else y + self.shortcut(x)


def _shortcut(inputs: int, outputs: int, bypass: Bypass) -> nn.Module | None:
    if bypass != "none" and inputs == outputs:
        return nn.Identity()
    return nn.Conv2d(inputs, outputs, 1) if bypass == "complex" else None

"""The geometry of a two-dimensional convolution: pure shape arithmetic."""

import math
from dataclasses import dataclass
from typing import Self

from torch import nn


@dataclass(frozen=True)
class ConvGeometry:
    """What a replacement has to keep: nn.Conv2d's arguments, with (height, width) pairs."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """Read `conv`; ValueError for what a replacement could not keep (circular padding, ...)."""
        if conv.padding_mode != "zeros":
            raise ValueError(f"padding_mode={conv.padding_mode!r}: only 'zeros' can be replaced")
        if isinstance(conv.padding, str):
            raise ValueError(f"padding={conv.padding!r}: only numbers can be replaced")
        return cls(
            conv.in_channels,
            conv.out_channels,
            pair(conv.kernel_size),
            pair(conv.stride),
            pair(conv.padding),
            pair(conv.dilation),
            conv.groups,
            conv.bias is not None,
        )

    def arguments(self) -> tuple:
        """nn.Conv2d's positional arguments, in nn.Conv2d's order."""
        return (
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.bias,
        )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output (height, width) of the convolution on an input of (height, width)."""
        sizes = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(
                (height, width), self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        return sizes[0], sizes[1]

    def centre_margins(self) -> tuple[int, int, int, int]:
        """Padding (left, right, top, bottom) with which a 1x1 kernel of this stride sees each window's centre.

        In the order of torch.nn.functional.pad, which cuts where a margin is negative.
        """
        vertical, horizontal = (
            2 * p - d * (k - 1) for p, d, k in zip(self.padding, self.dilation, self.kernel_size, strict=True)
        )
        return horizontal // 2, math.ceil(horizontal / 2), vertical // 2, math.ceil(vertical / 2)


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """One number or (height, width) as (height, width)."""
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width


def nearest_divisor(number: int, to: int) -> int:
    """The divisor of `number` nearest to `to`, the smaller of two."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - to))

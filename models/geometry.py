"""The geometry of a two-dimensional convolution: pure shape arithmetic."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

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

    @classmethod
    def like(cls, *arguments: Any) -> Self:
        """The geometry for nn.Conv2d's arguments, in its order, checked as nn.Conv2d and `of` check them."""
        return cls.of(nn.Conv2d(*arguments, device="meta"))

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

    @property
    def keeps_size(self) -> bool:
        """Whether the output is as high and wide as the input."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        return self.stride == (1, 1) and all(2 * p == r for p, r in zip(self.padding, reach, strict=True))

    def with_kernel(self, size: int) -> Self:
        """A size x size kernel with the same output; ValueError where no padding achieves that."""
        growth = [d * (size - k) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        padding = [p + g // 2 for p, g in zip(self.padding, growth, strict=True)]
        if size < 1 or any(g % 2 for g in growth) or min(padding) < 0:
            own = self.kernel_size[0]
            near = size + 1 if size > own else own
            raise ValueError(f"a kernel of size {size} cannot stand for {self.kernel_size}; nearest: {near}")
        return replace(self, kernel_size=(size, size), padding=(padding[0], padding[1]))

    def same_size(self) -> Self:
        """A further convolution of its output with the same kernel, which changes neither size nor channels."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if any(r % 2 for r in reach):
            own = self.kernel_size
            raise ValueError(f"kernel_size={own}: stacked, only an odd kernel keeps the size; nearest: {own[0] + 1}")
        return replace(self, in_channels=self.out_channels, stride=(1, 1), padding=(reach[0] // 2, reach[1] // 2))

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

"""Ghost module: some outputs by a convolution, the others from those by a cheap depthwise one."""

import math

import torch
from torch import Tensor, nn


class Ghost(nn.Module):
    """cat(y, depthwise d x d(y)) cut to out_channels, with y the convolution to ceil(out_channels / `ratio`).

    Source: Han, Wang, Tian, Guo, Xu, Xu 2020, "GhostNet", arXiv:1911.11907, section 3.1; d is `cheap_kernel_size`.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs, with p = ceil(n / ratio): H' W' (k^2 m p / groups + d^2 p (ratio - 1)).
    Differs: the authors' module ends each part with BatchNorm and ReLU. Here there is no
    ReLU, as in their own module where it replaces a linear convolution, and no BatchNorm, because each part is also a
    part of the output, which the network normalises itself. `groups` is that of the convolution.
    """

    budget_knob = ("ratio", (2, 3, 4, 5, 6, 8))

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
        ratio: int = 2,
        cheap_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if out_channels < 2:
            raise ValueError(f"out_channels={out_channels}: one channel has no ghost; nearest: 2")
        if not 2 <= ratio <= out_channels:
            nearest = min(max(ratio, 2), out_channels)
            raise ValueError(f"ratio={ratio}: must be from 2 to out_channels={out_channels}; nearest: {nearest}")
        if cheap_kernel_size % 2 == 0:
            raise ValueError(f"cheap_kernel_size={cheap_kernel_size}: must be odd; nearest: {cheap_kernel_size + 1}")
        primary = math.ceil(out_channels / ratio)
        if primary % groups:
            raise ValueError(
                f"groups={groups} must divide the {primary} = ceil(out_channels / ratio) channels of the convolution; "
                f"nearest: {math.gcd(primary, groups)}"
            )
        self.out_channels = out_channels
        self.primary = nn.Conv2d(in_channels, primary, kernel_size, stride, padding, dilation, groups, bias)
        self.cheap = nn.Conv2d(
            primary,
            primary * (ratio - 1),
            cheap_kernel_size,
            padding=cheap_kernel_size // 2,
            groups=primary,
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat((y, self.cheap(y)), dim=1)[:, : self.out_channels]

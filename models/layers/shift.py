"""Shift: 1x1 convolutions around a displacement of channels, which has neither weights nor MACs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import ConvGeometry, pair


class Shift(nn.Module):
    """1x1(displace(ReLU(1x1(x)))) with `expansion` * out_channels channels displaced, in place of k x k.

    Source: Wu et al. 2018, "Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions",
    arXiv:1711.08141, section 3 and the CSC module of figure 3.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs, with e = expansion: H W m e n (the first 1x1 runs at input size) + H' W' e n^2. At stride 2 and
    n = 2 m that is 2 e / 3 of a 3 x 3 convolution, so that e = 1, the default, is the one that saves everywhere.
    Differs: the authors normalise before the first 1x1 and add the input; the network does both. They interleave the
    displacements; here channels with the same displacement are neighbours, which the 1x1 on both sides make irrelevant.
    """

    budget_knob = ("expansion", (1, 2, 3, 4))

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
        expansion: int = 1,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"groups={groups}: a group would see a few places of the window only; nearest: 1")
        channels, taps = expansion * out_channels, math.prod(pair(kernel_size))
        if channels < taps:
            raise ValueError(
                f"expansion={expansion}: {channels} channels cannot be displaced to the {taps} places of "
                f"kernel_size={kernel_size}; nearest: {math.ceil(taps / out_channels)}"
            )
        self.expand = nn.Conv2d(in_channels, channels, 1, bias=bias)
        self.norm = nn.Identity() if bias else nn.BatchNorm2d(channels)
        self.displace = Displace(
            ConvGeometry(channels, channels, pair(kernel_size), pair(stride), pair(padding), pair(dilation), 1, False)
        )
        self.project = nn.Conv2d(channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.displace(torch.relu(self.norm(self.expand(x)))))


class Displace(nn.Module):
    """Read each channel at one place of the window: x (N, C, H, W) -> (N, C, H', W') of `geometry`.

    The k^2 places share the channels equally, in rows from the top left; the C mod k^2 channels left over stay at the
    centre. Only the values that are used are read, so that a stride makes it cheaper.
    """

    def __init__(self, geometry: ConvGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        (down, right), (rows, columns) = geometry.dilation, geometry.kernel_size
        self.places = [(i * down, j * right) for i in range(rows) for j in range(columns)]
        share, left_over = divmod(geometry.in_channels, rows * columns)
        self.shares = [share] * (rows * columns)
        if left_over:
            self.shares.append(left_over)
            self.places.append((math.ceil(down * (rows - 1) / 2), math.ceil(right * (columns - 1) / 2)))

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.geometry.output_size(*x.shape[2:])
        (vertical, horizontal), (down, right) = self.geometry.padding, self.geometry.stride
        padded = F.pad(x, (horizontal, horizontal, vertical, vertical))
        pieces = [
            piece[:, :, top : top + down * (height - 1) + 1 : down, left : left + right * (width - 1) + 1 : right]
            for piece, (top, left) in zip(padded.split(self.shares, dim=1), self.places, strict=True)
        ]
        return torch.cat(pieces, dim=1)

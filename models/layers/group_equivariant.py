"""Convolutions equivariant to quarter turns (p4) and mirrorings too (p4m), for networks built of them.

Source: Cohen, Welling 2016, "Group Equivariant Convolutional Networks", arXiv:1602.07576, sections 4 and 7.

Features are (N, C, |H|, H, W): C fibres of one plane for each of the |H| = 4 (p4) or 8 (p4m) elements of the
point group. Element 4 m + r mirrors left-right m times, then makes r quarter turns. nn.BatchNorm3d normalises
fibre by fibre, as equivariance needs; pointwise functions need no care; group pooling is `x.mean(2)` or
`x.amax(2)`, and an invariant network pools so once, at its end.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Group = Literal["p4", "p4m"]
ORDER = {"p4": 4, "p4m": 8}


class GroupConv2d(nn.Module):
    """Cross-correlation on the group: plane h of an output fibre sees the filter transformed by h.

    The filter of plane h and input plane g is T_h(weight[h^-1 g]) (equation 11); with `lifting` the input
    is an image and the filter T_h(weight) (equation 10). All planes are one nn.functional.conv2d.
    Shapes: x (N, in_channels, |H|, H, W), with `lifting` (N, in_channels, H, W) -> (N, out_channels, |H|, H', W').
    Cost in MACs: H' W' k^2 (in_channels |H|) (out_channels |H|), |H| for each weight and position; with `lifting`
    H' W' k^2 in_channels (out_channels |H|). At equal parameters that is |H| times nn.Conv2d's.
    Equivariant only where the strided grid is symmetric: (H + 2 padding - k) % stride == 0, so odd sizes at
    stride 2 with 3x3 and padding 1. Elsewhere, as in the published networks on 32 px, it is not.
    Raises ValueError for an unknown `group` and for an even `kernel_size`, which has no centre pixel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        *,
        group: Group,
        lifting: bool = False,
    ) -> None:
        super().__init__()
        if group not in ORDER:
            raise ValueError(f"group={group!r}: must be 'p4' or 'p4m'")
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size}: a filter turns about its centre pixel; nearest: {kernel_size + 1}"
            )
        self.in_channels, self.out_channels, self.order = in_channels, out_channels, ORDER[group]
        self.stride, self.padding = stride, padding
        taps = filter_index(self.order, kernel_size, lifting)
        self.register_buffer("taps", taps, persistent=False)
        self.taps: Tensor
        # Four axes, (out, in * planes, k, k): Module.to(memory_format=channels_last) fails on five.
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels * taps.shape[1], kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")  # N(0, 2 / (k^2 in_channels planes))

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.repeat_interleave(self.order)
        y = F.conv2d(x.flatten(1, -3), self.filter_bank(), bias, self.stride, self.padding)
        return y.unflatten(1, (self.out_channels, self.order))

    def filter_bank(self) -> Tensor:
        """The filters of all planes, (out_channels |H|, in_channels planes, k, k)."""
        filters = self.weight.reshape(self.out_channels, 1, self.in_channels, -1).expand(-1, self.order, -1, -1)
        taps = self.taps.flatten(1)[:, None].expand_as(filters)
        # filters[..., taps] would give the same, but its gradient takes several times as long.
        return filters.gather(3, taps).view(-1, *self.weight.shape[1:])

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Each output takes one MAC for each weight of its fibre's filter; both shapes with N."""
        return math.prod(output_shape) * math.prod(self.weight.shape[1:])


def filter_index(order: int, kernel_size: int, lifting: bool) -> Tensor:
    """The positions of the taps of every T_h(weight[h^-1 g]) in a filter (planes, k, k): (|H|, planes, k, k)."""
    planes = 1 if lifting else order
    taps = torch.arange(planes * kernel_size**2).view(planes, kernel_size, kernel_size)
    return torch.stack([transform(taps[[quotient(h, g) % planes for g in range(planes)]], h) for h in range(order)])


def transform(planes: Tensor, h: int) -> Tensor:
    """T_h: element h of p4m applied to the last two axes."""
    mirrored, turns = divmod(h, 4)
    return torch.rot90(planes.flip(-1) if mirrored else planes, turns, (-2, -1))


def quotient(h: int, g: int) -> int:
    """The number of h^-1 g, from the numbers of the elements h and g of p4m: a mirroring reverses the turns."""
    (h_mirrored, h_turns), (g_mirrored, g_turns) = divmod(h, 4), divmod(g, 4)
    turns = h_turns - g_turns if h_mirrored else g_turns - h_turns
    return 4 * (h_mirrored ^ g_mirrored) + turns % 4


def parts(group: Literal["z2", "p4", "p4m"]) -> tuple[Callable, Callable, Callable]:
    """The layers for a network on `group`: its first convolution, its other convolutions and its normalisation.

    "z2" has no symmetry but translation: torch's own planar layers, which models/rebuild.py can replace.
    """
    if group == "z2":
        return nn.Conv2d, nn.Conv2d, nn.BatchNorm2d
    return partial(GroupConv2d, group=group, lifting=True), partial(GroupConv2d, group=group), nn.BatchNorm3d

"""Low-cost collaborative layer, LCCL: a convolution gated by a cheap one."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.geometry import ConvGeometry

GateKernel = Literal["1x1", "kxk"]
GateChannels = Literal["shared", "each"]
Unit = Literal["product", "relu_product"]


class LCCL(nn.Module):
    """conv(x) * ReLU(BN(cheap conv(x))): where the gate is zero the convolution need not be computed.

    Source: Dong, Huang, Yang, Yan 2017, "More is Less", arXiv:1703.08651, and the authors' own code. Three gates:
    k x k x C x 1 (`gate_kernel="kxk"`, the authors' bottleneck networks), 1 x 1 x C x 1 ("1x1", their basic
    blocks), both one map for all outputs, and 1 x 1 x C x T (`gate_channels="each"`), one map for each output.
    `gate_norm=False` leaves out the gate's BatchNorm; a bias takes its place. `unit="product"` is the authors'
    code; "relu_product" is the paper's ReLU(BN(conv(x))) * gate, without that BatchNorm where `bias` is set.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' k^2 m n / groups for the convolution, H' W' k_gate^2 m for a shared gate,
    H' W' m n / groups for one a channel. With a fraction r of the gate map open, skipping leaves of the
    convolution's own cost, at groups = 1: r + 1 / n (k x k), r + 1 / (k^2 n) (1 x 1), r + 1 / k^2 (one a channel).
    A gate that costs as much as its convolution is refused.
    Differs: the authors stand the unit before the next BatchNorm and ReLU (pre-activation); as a drop-in in a
    post-activation network its product, with "relu_product" never negative, goes straight into the BatchNorm
    that followed the convolution. Their gate learns at the base rate; here at `gate_lr_scale` of it, without
    weight decay. With `groups` a gate for each output sees the inputs of its own group, a shared one all.
    """

    is_gated = True

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
        gate_kernel: GateKernel = "1x1",
        gate_channels: GateChannels = "shared",
        gate_norm: bool = True,
        gate_lr_scale: float = 0.1,
        unit: Unit = "product",
    ) -> None:
        super().__init__()
        _require_choice("gate_kernel", gate_kernel, GateKernel)
        _require_choice("gate_channels", gate_channels, GateChannels)
        _require_choice("unit", unit, Unit)
        if gate_lr_scale <= 0:
            raise ValueError(f"gate_lr_scale={gate_lr_scale}: must be positive; nearest that trains well: 0.1")
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        geometry = ConvGeometry.of(conv)
        _require_cheap(geometry, gate_kernel, gate_channels)
        norm = [] if bias else [nn.BatchNorm2d(out_channels)]
        self.conv = conv if unit == "product" else nn.Sequential(conv, *norm, nn.ReLU())
        self.gate = Gate(geometry, gate_kernel, gate_channels, norm=gate_norm, lr_scale=gate_lr_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gate(x)


class Gate(nn.Module):
    """ReLU(BN(conv)): x (N, m, H, W) -> gate map (N, 1 or n, H', W') of `geometry`, n output channels."""

    def __init__(
        self, geometry: ConvGeometry, kernel: GateKernel, channels: GateChannels, *, norm: bool, lr_scale: float
    ) -> None:
        super().__init__()
        self.lr_scale = lr_scale
        g = geometry
        self.margins = g.centre_margins() if kernel == "1x1" else (0, 0, 0, 0)
        size, padding, dilation = (1, 0, 1) if kernel == "1x1" else (g.kernel_size, g.padding, g.dilation)
        maps, groups = (1, 1) if channels == "shared" else (g.out_channels, g.groups)
        self.conv = nn.Conv2d(g.in_channels, maps, size, g.stride, padding, dilation, groups, bias=not norm)
        self.norm = nn.BatchNorm2d(maps) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if any(self.margins):
            x = F.pad(x, self.margins)  # negative margins cut
        return torch.relu(self.norm(self.conv(x)))


def _require_choice(argument: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{argument}={value!r}: must be {' or '.join(map(repr, get_args(choices)))}")


def _require_cheap(geometry: ConvGeometry, kernel: GateKernel, channels: GateChannels) -> None:
    """ValueError where the gate costs as much as the convolution, whose formula is that of the largest gate."""
    conv = _macs_a_position(geometry, "kxk", "each")
    if _macs_a_position(geometry, kernel, channels) < conv:
        return
    cheaper: list[tuple[GateKernel, GateChannels]] = [("1x1", channels), ("1x1", "shared")]
    fits = [form for form in cheaper if _macs_a_position(geometry, *form) < conv]
    nearest = "gate_kernel={!r}, gate_channels={!r}".format(*fits[0]) if fits else "the convolution without a gate"
    raise ValueError(
        f"gate_kernel={kernel!r}, gate_channels={channels!r}: the gate must cost less than the convolution that it "
        f"can skip; nearest: {nearest}"
    )


def _macs_a_position(geometry: ConvGeometry, kernel: GateKernel, channels: GateChannels) -> int:
    taps = 1 if kernel == "1x1" else math.prod(geometry.kernel_size)
    fan = geometry.out_channels // geometry.groups if channels == "each" else 1
    return taps * geometry.in_channels * fan

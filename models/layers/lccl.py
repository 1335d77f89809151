"""Low-cost collaborative layer, LCCL: a convolution gated by a cheap one."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.geometry import ConvGeometry


class LCCL(nn.Module):
    """conv(x) * ReLU(BN(cheap conv(x))): where the gate is zero the convolution need not be computed.

    Source: Dong, Huang, Yang, Yan 2017, "More is Less", arXiv:1703.08651, and the authors' own code. The
    gate has one output channel for all outputs of the convolution: a k x k x C x 1 kernel
    (`gate_kernel="kxk"`, the authors' bottleneck networks) or 1 x 1 x C x 1 ("1x1", their basic blocks).
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' (k^2 m n / groups + k_gate^2 m) dense; with a fraction z of the gate map zero,
    skipping leaves H' W' ((1 - z) k^2 m n / groups + k_gate^2 m).
    Differs: the authors stand the unit before the next BatchNorm and ReLU (pre-activation); as a drop-in in a
    post-activation network its product goes straight into the BatchNorm that followed the convolution.
    Their gate learns at the base rate; here at `gate_lr_scale` of it, without weight decay.
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
        gate_kernel: Literal["1x1", "kxk"] = "1x1",
        gate_lr_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if gate_kernel not in ("1x1", "kxk"):
            raise ValueError(f"gate_kernel={gate_kernel!r}: must be '1x1' or 'kxk'")
        if gate_lr_scale <= 0:
            raise ValueError(f"gate_lr_scale={gate_lr_scale}: must be positive; nearest that trains well: 0.1")
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.gate = Gate(ConvGeometry.of(self.conv), pointwise=gate_kernel == "1x1", lr_scale=gate_lr_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gate(x)


class Gate(nn.Module):
    """ReLU(BN(conv)) with one output channel: x (N, m, H, W) -> gate map (N, 1, H', W') of `geometry`."""

    def __init__(self, geometry: ConvGeometry, *, pointwise: bool, lr_scale: float) -> None:
        super().__init__()
        self.lr_scale = lr_scale
        g = geometry
        self.margins = g.centre_margins() if pointwise else (0, 0, 0, 0)
        kernel, padding, dilation = (1, 0, 1) if pointwise else (g.kernel_size, g.padding, g.dilation)
        self.conv = nn.Conv2d(g.in_channels, 1, kernel, g.stride, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.margins):
            x = F.pad(x, self.margins)  # negative margins cut
        return torch.relu(self.norm(self.conv(x)))

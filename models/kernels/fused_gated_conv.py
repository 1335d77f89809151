"""A gated convolution of a deployed network, with what follows it folded in; it skips or it does not."""

import math
import operator

import torch
from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..macs import conv_macs
from .arguments import Arguments
from .fused_conv import Add, FusedConv, activate
from .gated_conv import gate_sums, gated_conv2d


class FusedGatedConv(nn.Module):
    """ReLU?(inner(conv(x)) * gate(x) * scale + shift + residual), as models/kernels/gated_conv.py defines it.

    `skips` chooses how: only where the gate is open, or everywhere, as a fused convolution times the gate. The results
    agree but where the gate is closed and the window holds NaN or infinity, which the dense product spreads.
    Shapes: x (N, C, H, W) -> nn.Conv2d's (N, T, H', W'); gate_weight (1, C, k', l'), gate_bias (1,), scale, shift (T,).
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        weight: Tensor,
        bias: Tensor | None,
        gate_weight: Tensor,
        gate_bias: Tensor,
        gate_padding: tuple[int, int],
        gate_ceiling: float,
        scale: Tensor | None,
        shift: Tensor | None,
        *,
        inner_relu: bool,
        relu: bool,
        add: Add = operator.add,
    ) -> None:
        super().__init__()
        self.conv = FusedConv(geometry, weight, bias, ceiling=math.inf if inner_relu else None)
        self.gate_weight = nn.Parameter(gate_weight, requires_grad=False)
        self.gate_bias = nn.Parameter(gate_bias, requires_grad=False)
        self.gate_padding, self.gate_ceiling = list(gate_padding), gate_ceiling
        self.scale = None if scale is None else nn.Parameter(scale, requires_grad=False)
        self.shift = None if shift is None else nn.Parameter(shift, requires_grad=False)
        self.geometry, self.relu, self.add, self.skips = geometry, relu, add, True
        self.ceiling = math.inf if relu else None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.skipping(x, residual, self.gate_bias) if self.skips else self.dense(x, residual)

    def skipping(self, x: Tensor, residual: Tensor | None, gate_bias: Tensor) -> Tensor:
        if residual is None or self.conv.joins(residual, x):
            return self._skip(x, residual, gate_bias, relu=self.relu)
        return activate(self.add(self._skip(x, None, gate_bias, relu=False), residual), self.ceiling)

    def _skip(self, x: Tensor, residual: Tensor | None, gate_bias: Tensor, *, relu: bool) -> Tensor:
        return gated_conv2d(self._arguments(x, residual, gate_bias, relu=relu))

    def _arguments(self, x: Tensor, residual: Tensor | None, gate_bias: Tensor, *, relu: bool) -> Arguments:
        return Arguments(
            x=x,
            weight=self.conv.weight,
            bias=self.conv.bias,
            gate_weight=self.gate_weight,
            gate_bias=gate_bias,
            scale=self.scale,
            shift=self.shift,
            residual=residual,
            stride=self.conv.stride,
            padding=self.conv.padding,
            dilation=self.conv.dilation,
            groups=self.geometry.groups,
            gate_padding=self.gate_padding,
            gate_ceiling=self.gate_ceiling,
            inner_relu=self.conv.ceiling is not None,
            relu=relu,
        )

    def dense(self, x: Tensor, residual: Tensor | None) -> Tensor:
        gate = self.gate(x)
        gate = gate if self.scale is None else gate * _by_channel(self.scale)
        y = self.conv(x)
        y = y * gate if self.shift is None else torch.addcmul(_by_channel(self.shift), y, gate)
        return activate(y if residual is None else self.add(y, residual), self.ceiling)

    def gate(self, x: Tensor) -> Tensor:
        """The gate map (N, 1, H', W')."""
        return self.gate_sums(x).clamp(0, self.gate_ceiling)

    def gate_sums(self, x: Tensor) -> Tensor:
        return gate_sums(self._arguments(x, None, self.gate_bias, relu=False))

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """MACs of the gate and of every position, open or closed; where it does not skip, `conv` counts for itself."""
        return self.gate_macs(output_shape) + (self.conv.macs(input_shape, output_shape) if self.skips else 0)

    def gate_macs(self, output_shape: tuple[int, ...]) -> int:
        n, _, h, w = output_shape
        return conv_macs(tuple(self.gate_weight.shape), (n, 1, h, w))


def _by_channel(vector: Tensor) -> Tensor:
    return vector[:, None, None]

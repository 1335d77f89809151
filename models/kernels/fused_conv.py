"""A convolution of a deployed network, with what follows it in one operator."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import ConvGeometry
from ..macs import conv_macs
from .packed import PackedWeights

Add = Callable[[Tensor, Tensor], Tensor]


class FusedConv(nn.Module):
    """clamp?(conv(x) + bias + residual): nn.Conv2d's shapes, `weight` (T, C / groups, k, l), `bias` (T,) or None.

    The clamp, left out where `ceiling` is None, is to 0 and that, infinity for a ReLU.
    Where what is added has another shape or type, `add` adds it: operator.add, or operator.iadd, whose sum keeps the
    shape and type of the convolution. On CPUs float32 runs in oneDNN's fused operators, with weights in the
    layout that it prefers for the shape of x (packed.py), and on CUDA half precision that ends with a ReLU in cuDNN's;
    elsewhere as separate PyTorch operators.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        weight: Tensor,
        bias: Tensor | None,
        *,
        ceiling: float | None,
        add: Add = operator.add,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.geometry, self.ceiling, self.add = geometry, ceiling, add
        self.stride, self.padding, self.dilation = (
            list(getattr(geometry, n)) for n in ("stride", "padding", "dilation")
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None or self.joins(residual, x):
            return self._convolve(x, residual, self.ceiling)
        return activate(self.add(self._convolve(x, None, None), residual), self.ceiling)

    def joins(self, residual: Any, x: Tensor) -> bool:
        """Whether `residual` is a tensor of the shape, type and device of the output for x."""
        if not isinstance(residual, Tensor) or x.dim() != 4 or residual.shape != self.output_shape(x):
            return False
        return residual.dtype == x.dtype and residual.device == x.device

    def output_shape(self, x: Tensor) -> tuple[int, int, int, int]:
        return (x.shape[0], self.weight.shape[0], *self.geometry.output_size(x.shape[2], x.shape[3]))

    def _convolve(self, x: Tensor, residual: Tensor | None, ceiling: float | None) -> Tensor:
        if self._fits_onednn(x) and (residual is None or ceiling in (None, math.inf)):
            return self._onednn(x, residual, ceiling)
        window = (self.stride, self.padding, self.dilation, self.geometry.groups)
        if ceiling == math.inf:
            return conv_add_relu(x, self.weight, self.bias, residual, *window, relu=True)
        return activate(conv_add_relu(x, self.weight, self.bias, residual, *window, relu=False), ceiling)

    def _fits_onednn(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling():  # the compiler fuses by itself
            return False
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and x.numel() > 0
        expected = x.dim() == 4 and x.shape[1] == self.geometry.in_channels  # else F.conv2d says what is wrong
        return plain and expected and torch.backends.mkldnn.is_available()

    def _onednn(self, x: Tensor, residual: Tensor | None, ceiling: float | None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        rest = (self._packed(x), self.bias, self.padding, self.stride, self.dilation, self.geometry.groups)
        if residual is None:
            how = (
                ("none", [])
                if ceiling is None
                else ("relu", [])
                if ceiling == math.inf
                else ("hardtanh", [0.0, ceiling])
            )
            return torch.ops.mkldnn._convolution_pointwise(x, *rest, *how, "")
        residual = residual.contiguous(memory_format=torch.channels_last)
        unary = None if ceiling is None else "relu"
        return torch.ops.mkldnn._convolution_pointwise.binary(x, residual, *rest, "add", 1.0, unary, [], None)

    def _packed(self, x: Tensor) -> Tensor:
        def pack() -> Tensor:
            how = (self.padding, self.stride, self.dilation, self.geometry.groups, list(x.shape))
            return torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how)

        return _packed.of(self.weight, (self.geometry, x.shape), pack)

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return conv_macs(tuple(self.weight.shape), output_shape)


def conv_add_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int = 1,
    *,
    relu: bool,
) -> Tensor:
    """ReLU?(conv(x) + bias + residual), the residual of the output's shape and type."""
    halves = x.dtype in (torch.half, torch.bfloat16) and x.dtype == weight.dtype
    if x.is_cuda and halves and relu and groups == 1 and not torch.compiler.is_compiling():
        # One pass instead of three: ResNet-50 in bfloat16 runs twice as fast (results/README.md, "On a GPU").
        window = (bias, stride, padding, dilation, groups)
        if residual is None:
            return torch.cudnn_convolution_relu(x, weight, *window)
        return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, *window)
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = y if residual is None else y + residual
    return y.relu() if relu else y


def activate(y: Tensor, ceiling: float | None) -> Tensor:
    if ceiling is None:
        return y
    return y.relu() if ceiling == math.inf else y.clamp(0, ceiling)


_packed = PackedWeights()

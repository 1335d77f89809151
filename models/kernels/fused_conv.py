"""A convolution of a deployed network, with what follows it in one operator."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from models.cost import conv_macs
from models.geometry import ConvGeometry


class FusedConv(nn.Module):
    """ReLU?(conv(x) + bias + residual): nn.Conv2d's shapes, `weight` (T, C / groups, k, l), `bias` (T,) or None.

    On CPUs float32 runs in oneDNN's fused operators, with weights in the layout that it prefers (made on first use and
    kept while neither the weight nor the shape of x changes); elsewhere as separate PyTorch operators.
    """

    def __init__(self, geometry: ConvGeometry, weight: Tensor, bias: Tensor | None, *, relu: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding, self.dilation = [list(getattr(geometry, n)) for n in ("stride", "padding", "dilation")]
        self.groups, self.relu = geometry.groups, relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self._fits_onednn(x):
            return self._onednn(x, residual)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        y = y if residual is None else y + residual
        return y.relu() if self.relu else y

    def _fits_onednn(self, x: Tensor) -> bool:
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and x.numel() > 0
        return plain and torch.backends.mkldnn.is_available() and not torch.compiler.is_compiling()

    def _onednn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        weight, unary = self._packed(x), "relu" if self.relu else "none"
        rest = (weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        if residual is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *rest, unary, [], "")
        residual = residual.contiguous(memory_format=torch.channels_last)
        unary = "relu" if self.relu else None
        return torch.ops.mkldnn._convolution_pointwise.binary(x, residual, *rest, "add", 1.0, unary, [], None)

    def _packed(self, x: Tensor) -> Tensor:
        w = self.weight
        state = (tuple(x.shape), w.data_ptr(), 0 if w.is_inference() else w._version)
        found = _packed.get(w)
        if found is None or found[0] != state:
            geometry = (self.padding, self.stride, self.dilation, self.groups)
            found = state, torch.ops.mkldnn._reorder_convolution_weight(w, *geometry, list(x.shape))
            _packed[w] = found
        return found[1]

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return conv_macs(tuple(self.weight.shape), output_shape)


_packed = WeakTensorKeyDictionary()  # weight -> what it was made for, weight in oneDNN's layout

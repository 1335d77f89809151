"""A convolution times its gate, computed only where the gate is open: one operator, one contract.

    y[n, :, i, j] = relu?( inner(conv(x))[n, :, i, j] * g[n, i, j] * scale + shift + residual[n, :, i, j] )

with the gate g = clamp(gate convolution of x + gate_bias, 0, gate_ceiling), one map for all output channels, and inner
a ReLU or nothing. An infinite ceiling is none.
Where g is zero the first term is exactly zero and the convolution is not computed, so that NaN or infinity in its
window does not show, as it would in the dense product (0 x infinity); where g itself is NaN, so is the output.

`gated_conv2d` is the PyTorch operator cheapconv::gated_conv2d, visible to torch.compile, torch.export and
torch.utils.flop_counter (which counts every position: how many are open is not known before it runs). On CPUs it is
native.py for float32 where there is a C compiler, on CUDA triton_gated_conv.py, and
everywhere else `portable`. Source of the idea: Dong, Huang, Yang, Yan 2017, arXiv:1703.08651, section 3.3.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from . import native
from .arguments import Arguments, schema

_library = torch.library.Library("cheapconv", "DEF")
_library.define(f"gated_conv2d({schema(Arguments)}) -> Tensor")


def gated_conv2d(arguments: Arguments) -> Tensor:
    """Call the operator: -> (N, T, H', W'), channels last.

    Raises ValueError where the arguments do not fit each other, and where a gradient would be needed.
    """
    return torch.ops.cheapconv.gated_conv2d(*arguments)


def portable(a: Arguments) -> Tensor:
    """Gather the windows of open positions, multiply them as one matrix, scatter the rows: any device and shape."""
    size = a.output_size
    gate = gate_sums(a).clamp(0, a.gate_ceiling).flatten()  # N H' W'
    open_ = (~(gate <= 0)).nonzero().flatten()  # M; NaN is open
    y = _multiply(_windows(a, open_), a.weight, a.groups)  # M, T
    if a.bias is not None:
        y = y + a.bias
    if a.inner_relu:
        y = y.relu()
    y = y * gate[open_, None]
    if a.scale is not None:
        y = y * a.scale
    rows = y.new_zeros(len(gate), len(a.weight)).index_copy_(0, open_, y)  # N H' W', T
    out = rows.unflatten(0, (len(a.x), *size)).permute(0, 3, 1, 2)  # channels last
    if a.shift is not None:
        out = out + a.shift[:, None, None]
    if a.residual is not None:
        out = out + a.residual
    return out.relu() if a.relu else out


def gate_sums(a: Arguments) -> Tensor:
    """Gate convolution + gate_bias, not yet clamped: (N, 1, H', W')."""
    size, kernel, (top, left) = a.output_size, a.gate_weight.shape[2:], a.gate_padding
    below, right = (
        a.stride[i] * (size[i] - 1) + a.dilation[i] * (kernel[i] - 1) + 1 - a.x.shape[2 + i] - a.gate_padding[i]
        for i in (0, 1)
    )
    margins = [left, right, top, below]
    x = F.pad(a.x, margins) if any(margins) else a.x
    return F.conv2d(x, a.gate_weight, a.gate_bias, a.stride, 0, a.dilation)


def _windows(a: Arguments, open_: Tensor) -> Tensor:
    """The inputs that each of M output positions sees: (M, taps, C)."""
    (top, left), size, kernel = a.padding, a.output_size, a.weight.shape[2:]
    x = F.pad(a.x, (left, left, top, top)).permute(0, 2, 3, 1)
    _, height, width, channels = x.shape
    image, row, column = open_ // math.prod(size), open_ // size[1] % size[0], open_ % size[1]
    first = (image * height + row * a.stride[0]) * width + column * a.stride[1]  # M
    rows = torch.arange(kernel[0], device=x.device) * a.dilation[0] * width
    columns = torch.arange(kernel[1], device=x.device) * a.dilation[1]
    taps = (rows[:, None] + columns).flatten()
    places = (first[:, None] + taps).flatten()
    return x.reshape(-1, channels).index_select(0, places).unflatten(0, (len(open_), len(taps)))


def _multiply(windows: Tensor, weight: Tensor, groups: int) -> Tensor:
    """(M, taps, C) and (T, C / groups, k, l) -> (M, T)."""
    weight = weight.flatten(2)  # T, C / groups, taps
    if groups == 1:
        return windows.flatten(1) @ weight.transpose(1, 2).flatten(1).t()
    windows = windows.unflatten(2, (groups, -1))  # M, taps, groups, C / groups
    return torch.einsum("mpgc,gtcp->mgt", windows, weight.unflatten(0, (groups, -1))).flatten(1)


def _on_cpu(*values) -> Tensor:
    a = _checked(values)
    return native.gated_conv2d(a) if native.can_run(a) else portable(a)


def _on_cuda(*values) -> Tensor:
    a = _checked(values)
    try:
        from . import triton_gated_conv
    except ImportError:  # not every build for CUDA comes with Triton
        return portable(a)
    return triton_gated_conv.gated_conv2d(a) if triton_gated_conv.can_run(a) else portable(a)


def _elsewhere(*values) -> Tensor:
    return portable(_checked(values))


def _checked(values: tuple) -> Arguments:
    arguments = Arguments(*values)
    arguments.require_shapes()
    return arguments


def _without_gradients(*values) -> Tensor:
    arguments = Arguments(*values)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments.tensors):
        raise ValueError("cheapconv::gated_conv2d is for inference and has no gradient; call it under torch.no_grad()")
    with torch._C._AutoDispatchBelowAutograd():
        return gated_conv2d(arguments)


def _shape_only(*values) -> Tensor:
    a = Arguments(*values)
    return a.x.new_empty(*a.output_shape).to(memory_format=torch.channels_last)


def _flops(*values, out_val: Tensor, **ignored) -> int:
    """2 MACs of the convolution and of the gate at every position, open or closed."""
    a = Arguments(*values)
    positions = out_val.numel() // len(a.weight)
    return 2 * positions * (a.weight.numel() + a.gate_weight.numel())


_library.impl("gated_conv2d", _on_cpu, "CPU")
_library.impl("gated_conv2d", _on_cuda, "CUDA")
_library.impl("gated_conv2d", _elsewhere, "CompositeExplicitAutograd")
_library.impl("gated_conv2d", _without_gradients, "Autograd")
torch.library.register_fake("cheapconv::gated_conv2d", _shape_only, lib=_library)
register_flop_formula(torch.ops.cheapconv.gated_conv2d, get_raw=True)(_flops)

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

Pair = list[int]
ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor gate_weight, Tensor gate_bias, Tensor? scale, Tensor? shift, "
    "Tensor? residual, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, SymInt[2] gate_padding, "
    "float gate_ceiling, bool inner_relu, bool relu"
)
_library = torch.library.Library("cheapconv", "DEF")
_library.define(f"gated_conv2d({ARGUMENTS}) -> Tensor")


def gated_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate_weight: Tensor,
    gate_bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    gate_padding: Pair,
    gate_ceiling: float,
    inner_relu: bool,
    relu: bool,
) -> Tensor:
    """The operator: x (N, C, H, W), weight (T, C / groups, k, l), gate_weight (1, C, k', l') -> (N, T, H', W').

    nn.Conv2d's H' and W'; bias, scale, shift (T,), gate_bias (1,), residual (N, T, H', W'). `gate_padding` is what
    the gate's convolution pads above and to the left, cut off where negative; below and to the right it takes what H'
    and W' need. Stride and dilation are the convolution's.
    """
    return torch.ops.cheapconv.gated_conv2d(
        x,
        weight,
        bias,
        gate_weight,
        gate_bias,
        scale,
        shift,
        residual,
        stride,
        padding,
        dilation,
        groups,
        gate_padding,
        gate_ceiling,
        inner_relu,
        relu,
    )


def portable(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate_weight: Tensor,
    gate_bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    gate_padding: Pair,
    gate_ceiling: float,
    inner_relu: bool,
    relu: bool,
) -> Tensor:
    """Gather the windows of open positions, multiply them as one matrix, scatter the rows: any device and shape."""
    size = output_size(x, weight, stride, padding, dilation)
    gate = gate_sums(x, gate_weight, gate_bias, stride, dilation, gate_padding, size)
    gate = gate.clamp(0, gate_ceiling).flatten()  # N H' W'
    open_ = (~(gate <= 0)).nonzero().flatten()  # M; NaN is open
    windows = _windows(x, open_, size, weight.shape[2:], stride, padding, dilation)  # M, taps, C
    y = _multiply(windows, weight, groups)  # M, T
    if bias is not None:
        y = y + bias
    if inner_relu:
        y = y.relu()
    y = y * gate[open_, None]
    if scale is not None:
        y = y * scale
    rows = y.new_zeros(len(gate), len(weight)).index_copy_(0, open_, y)  # N H' W', T
    out = rows.unflatten(0, (len(x), *size)).permute(0, 3, 1, 2)  # channels last
    if shift is not None:
        out = out + shift[:, None, None]
    if residual is not None:
        out = out + residual
    return out.relu() if relu else out


def output_size(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> tuple[int, int]:
    """Height and width of the convolution's output."""
    height, width = (
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    )
    return height, width


def gate_sums(
    x: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    stride: Pair,
    dilation: Pair,
    gate_padding: Pair,
    size: tuple[int, int],
) -> Tensor:
    """Gate convolution + gate_bias, not yet clamped: x (N, C, H, W) -> (N, 1, *size)."""
    before = [gate_padding[1], gate_padding[0]]
    needed = [
        stride[i] * (size[i] - 1) + dilation[i] * (gate_weight.shape[2 + i] - 1) + 1 - x.shape[2 + i] - gate_padding[i]
        for i in (1, 0)
    ]
    margins = [before[0], needed[0], before[1], needed[1]]
    x = F.pad(x, margins) if any(margins) else x
    return F.conv2d(x, gate_weight, gate_bias, stride, 0, dilation)


def _windows(
    x: Tensor,
    open_: Tensor,
    size: tuple[int, int],
    kernel: torch.Size,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The inputs that each of M output positions sees: (M, taps, C)."""
    top, left = padding
    x = F.pad(x, (left, left, top, top)).permute(0, 2, 3, 1)
    _, height, width, channels = x.shape
    image, row, column = open_ // math.prod(size), open_ // size[1] % size[0], open_ % size[1]
    first = (image * height + row * stride[0]) * width + column * stride[1]  # M
    rows = torch.arange(kernel[0], device=x.device) * dilation[0] * width
    columns = torch.arange(kernel[1], device=x.device) * dilation[1]
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


def require_shapes(x: Tensor, weight: Tensor, *arguments) -> None:
    """ValueError where the tensors do not fit each other."""
    bias, gate_weight, gate_bias, scale, shift, residual, stride, padding, dilation, groups, _, ceiling, *_ = arguments
    t, c = weight.shape[0], x.shape[1]
    wanted = {"weight": (weight, (t, c // groups, *weight.shape[2:])), "bias": (bias, (t,)), "scale": (scale, (t,))}
    wanted |= {"gate_weight": (gate_weight, (1, c, *gate_weight.shape[2:])), "gate_bias": (gate_bias, (1,))}
    size = output_size(x, weight, stride, padding, dilation)
    wanted |= {"shift": (shift, (t,)), "residual": (residual, (x.shape[0], t, *size))}
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}: must be {shape} for x of {tuple(x.shape)}")
    if c % groups or t % groups:
        raise ValueError(f"groups={groups}: must divide the {c} input and the {t} output channels")
    if not ceiling > 0:
        raise ValueError(f"gate_ceiling={ceiling}: must be positive; infinity for none")


def _on_cpu(*arguments) -> Tensor:
    require_shapes(*arguments)
    implementation = native.gated_conv2d if native.can_run(arguments) else portable
    return implementation(*arguments)


def _on_cuda(*arguments) -> Tensor:
    require_shapes(*arguments)
    try:
        from . import triton_gated_conv
    except ImportError:  # not every build for CUDA comes with Triton
        return portable(*arguments)
    implementation = triton_gated_conv.gated_conv2d if triton_gated_conv.can_run(arguments) else portable
    return implementation(*arguments)


def _elsewhere(*arguments) -> Tensor:
    require_shapes(*arguments)
    return portable(*arguments)


def _without_gradients(*arguments) -> Tensor:
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
        raise ValueError("cheapconv::gated_conv2d is for inference and has no gradient; call it under torch.no_grad()")
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.cheapconv.gated_conv2d(*arguments)


def _shape_only(x: Tensor, weight: Tensor, *arguments) -> Tensor:
    stride, padding, dilation = arguments[6:9]
    size = output_size(x, weight, stride, padding, dilation)
    return x.new_empty(x.shape[0], weight.shape[0], *size).to(memory_format=torch.channels_last)


def gated_conv_flops(x_shape, weight_shape, bias, gate_shape, *arguments, out_shape, **ignored) -> int:
    """2 MACs of the convolution and of the gate at every position, from shapes."""
    positions = out_shape[0] * out_shape[2] * out_shape[3]
    return 2 * positions * (math.prod(weight_shape) + math.prod(gate_shape))


_library.impl("gated_conv2d", _on_cpu, "CPU")
_library.impl("gated_conv2d", _on_cuda, "CUDA")
_library.impl("gated_conv2d", _elsewhere, "CompositeExplicitAutograd")
_library.impl("gated_conv2d", _without_gradients, "Autograd")
torch.library.register_fake("cheapconv::gated_conv2d", _shape_only, lib=_library)
register_flop_formula(torch.ops.cheapconv.gated_conv2d)(gated_conv_flops)

"""Depthwise convolution, projection and what follows them, in one pass: one operator, one contract.

    z = clamp(depthwise(x) + depthwise_bias, 0, depthwise_ceiling), or x where there is no depthwise convolution
    y = relu?( inner_relu?(weight * z + bias + inner_residual) * scale + shift + residual )

`weight` is that of a convolution of all channels, with zeros where an output does not see an input; these are not
multiplied, as far as neighbouring outputs share them (unit_native.py). Behind a depthwise convolution it is 1x1, and
the geometry is that of the depthwise one. Where the clamp of z is left out, the depthwise convolution stays linear.

`unit` is the PyTorch operator cheapconv::unit, visible to torch.compile, torch.export and torch.utils.flop_counter. On
CPUs it is unit_native.py for float32 where there is a C compiler, and everywhere else `portable`. Source of the form:
Wang, Liu, Foroosh 2017, arXiv:1608.04337, Algorithms 3 and 4, and BatchNorm, addition and ReLU of the networks around.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.flop_counter import register_flop_formula

from . import unit_native
from .arguments import UnitArguments, schema
from .fused_conv import conv_add_relu

_library = torch.library.Library("cheapconv", "FRAGMENT")
_library.define(f"unit({schema(UnitArguments)}) -> Tensor")


def unit(arguments: UnitArguments) -> Tensor:
    """Call the operator: -> (N, T, H', W'), channels last.

    Raises ValueError where the arguments do not fit each other, and where a gradient would be needed.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments.tensors):
        raise ValueError("cheapconv::unit is for inference and has no gradient; call it under torch.no_grad()")
    if is_only_computed(arguments.x):
        return _on_cpu(*arguments)  # what the operator would call, without 30 microseconds on the way
    return torch.ops.cheapconv.unit(*arguments)


def is_only_computed(x: Tensor) -> bool:
    """Whether the result on the CPU is all that is asked for: no mode, tracer or subclass has to see the operator."""
    return (
        type(x) is Tensor
        and x.is_cpu
        and _get_current_dispatch_mode() is None
        and torch._C._get_tracing_state() is None
    )


def portable(a: UnitArguments) -> Tensor:
    """One step after the other: any device, type and shape."""
    z, window = a.x, (a.stride, a.padding, a.dilation)
    if a.depthwise is not None:
        z = F.conv2d(z, a.depthwise, a.depthwise_bias, *window, groups=z.shape[1])
        z, window = z if a.depthwise_ceiling is None else z.clamp(0, a.depthwise_ceiling), ([1, 1], [0, 0], [1, 1])
    y = conv_add_relu(z, a.weight, a.bias, a.inner_residual, *window, relu=a.inner_relu)
    if a.scale is not None and a.shift is not None:
        y = y * a.scale[:, None, None] + a.shift[:, None, None]
    if a.residual is not None:
        y = y + a.residual
    return y.relu() if a.relu else y


def _on_cpu(*values) -> Tensor:
    a = _checked(values)
    return unit_native.unit(a) if unit_native.can_run(a) else portable(a)


def _elsewhere(*values) -> Tensor:
    return portable(_checked(values))


def _checked(values: tuple) -> UnitArguments:
    arguments = UnitArguments(*values)
    arguments.require_shapes()
    return arguments


def _shape_only(*values) -> Tensor:
    a = UnitArguments(*values)
    return a.x.new_empty(*a.output_shape).to(memory_format=torch.channels_last)


def _flops(*values, out_val: Tensor, **ignored) -> int:
    """2 MACs of each connection and of each depthwise weight at each position."""
    a = UnitArguments(*values)
    positions = out_val.numel() // len(a.weight)
    return 2 * positions * (a.connections + (0 if a.depthwise is None else a.depthwise.numel()))


_library.impl("unit", _on_cpu, "CPU")
_library.impl("unit", _elsewhere, "CompositeExplicitAutograd")
_library.impl("unit", torch.library.fallthrough_kernel, "Autograd")  # one call of Python less: `unit` looks instead
torch.library.register_fake("cheapconv::unit", _shape_only, lib=_library)
register_flop_formula(torch.ops.cheapconv.unit, get_raw=True)(_flops)

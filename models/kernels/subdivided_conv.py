"""A convolution whose blocks of outputs each see some input channels only, with gradients, as one operator.

    y[block] = conv(x[:, seen[block]], weight[block]) for each block of T / blocks outputs

`subdivided_conv2d` is the PyTorch operator cheapconv::subdivided_conv2d, visible to torch.compile, torch.export and
torch.utils.flop_counter. On CPUs it and its gradients are the kernel of unit_native.py for float32 where there is a C
compiler, which multiplies what is connected and copies nothing. Elsewhere it is a dense convolution with zeros.
Source of the form: Wang, Liu, Foroosh 2017, arXiv:1608.04337, Algorithm 4.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from . import unit_native
from .arguments import Pair, UnitArguments, output_size

_WINDOW = "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation"
_library = torch.library.Library("cheapconv", "FRAGMENT")
_library.define(f"subdivided_conv2d(Tensor x, Tensor weight, Tensor seen, {_WINDOW}) -> Tensor")
_library.define(
    f"subdivided_conv2d_backward(Tensor gradient, Tensor x, Tensor weight, Tensor seen, {_WINDOW}, bool for_x, "
    "bool for_weight) -> (Tensor, Tensor)"
)


def subdivided_conv2d(x: Tensor, weight: Tensor, seen: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Call the operator: x (N, C, H, W), weight (T, inputs, k, l), seen (blocks, inputs) -> (N, T, H', W').

    H' and W' are nn.Conv2d's. `seen` holds input channels, of which no block has one twice.
    """
    return torch.ops.cheapconv.subdivided_conv2d(x, weight, seen, stride, padding, dilation)


def dense(weight: Tensor, seen: Tensor, in_channels: int) -> Tensor:
    """The filters of the convolution that computes the same: (T, in_channels, k, l), mostly zeros."""
    zeros = weight.new_zeros(len(weight), in_channels, *weight.shape[2:])
    return zeros.scatter(1, index(weight, seen), weight)


def index(weight: Tensor, seen: Tensor) -> Tensor:
    """The input channel of each weight."""
    return seen.repeat_interleave(len(weight) // len(seen), 0)[:, :, None, None].expand_as(weight)


class Pattern(NamedTuple):
    """Where the weights of a layer stand among the packed ones.

    In `forward` and `to_x`, the convolution from the output's gradient to the input's, the place of a weight is taken
    by its number, from 1 on, and that of none by 0. `places` are those of the weights in `forward`.
    """

    forward: unit_native.Packed
    to_x: unit_native.Packed
    places: Tensor


def _on_cpu(x: Tensor, weight: Tensor, seen: Tensor, *window: Pair) -> Tensor:
    if not _is_native(x, weight):
        return _elsewhere(x, weight, seen, *window)
    pattern = _pattern(weight, seen, x.shape[1])
    return unit_native.unit(_arguments(x, weight.shape, *window), _packed(weight, pattern.forward))


def _elsewhere(x: Tensor, weight: Tensor, seen: Tensor, *window: Pair) -> Tensor:
    stride, padding, dilation = window
    return F.conv2d(x, dense(weight, seen, x.shape[1]), None, stride, padding, dilation)


def _backward_on_cpu(gradient: Tensor, x: Tensor, weight: Tensor, seen: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *window, for_x, for_weight = others
    if not _is_native(x, weight):
        return _backward_elsewhere(gradient, x, weight, seen, *others)
    to_x = to_weight = weight.new_empty(0)
    pattern = _pattern(weight, seen, x.shape[1])
    if for_weight:
        arguments = _arguments(x, weight.shape, *window)._replace(residual=gradient)
        to_weight = unit_native.weight_gradient(arguments, pattern.forward)[pattern.places].view_as(weight)
    if for_x:
        to_x = _gradient_of_x(gradient, x, weight, pattern, *window)
        if to_x is None:
            to_x, _ = _backward_elsewhere(gradient, x, weight, seen, *window, True, False)
    return to_x, to_weight


def _gradient_of_x(
    gradient: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor | None:
    """By the kernel, which knows no transposed convolution with a stride: None there."""
    kernel = list(weight.shape[2:])
    margins = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    shape, one = (x.shape[1], len(weight), *kernel), [1, 1]
    if stride != one and (kernel != one or padding != [0, 0]):
        return None
    own = unit_native.unit(_arguments(gradient, shape, one, margins, dilation), _packed(weight, pattern.to_x))
    if stride == one:
        return own
    all_ = torch.zeros_like(x, memory_format=torch.channels_last)
    all_[:, :, :: stride[0], :: stride[1]] = own
    return all_


def _backward_elsewhere(
    gradient: Tensor, x: Tensor, weight: Tensor, seen: Tensor, *others: Any
) -> tuple[Tensor, Tensor]:
    *window, for_x, for_weight = others
    filters = dense(weight, seen, x.shape[1])
    wanted = [for_x, for_weight, False]
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, filters, None, *window, False, [0, 0], 1, wanted
    )
    nothing = weight.new_empty(0)
    if for_weight:
        to_weight = to_weight.gather(1, index(weight, seen))
    return (to_x if for_x else nothing), (to_weight if for_weight else nothing)


# ---- the kernel's layout ----


def _pattern(weight: Tensor, seen: Tensor, in_channels: int) -> Pattern:
    return _kept_pattern(tuple(weight.shape), seen.numpy().tobytes(), in_channels)  # by content: DDP writes to buffers


@functools.lru_cache(maxsize=256)
def _kept_pattern(shape: tuple[int, ...], seen: bytes, in_channels: int) -> Pattern:
    blocks = torch.frombuffer(bytearray(seen), dtype=torch.int64).view(-1, shape[1])
    numbers = torch.arange(1, math.prod(shape) + 1).view(shape)
    filters = dense(numbers, blocks, in_channels)
    forward, to_x = (unit_native.pack(f, 1) for f in (filters, filters.transpose(0, 1).flip(2, 3)))
    places = torch.zeros(numbers.numel() + 1, dtype=torch.int64)
    places[forward.weight] = torch.arange(len(forward.weight))
    return Pattern(forward, to_x, places[1:])


def _packed(weight: Tensor, numbers: unit_native.Packed) -> unit_native.Packed:
    return numbers._replace(weight=F.pad(weight.flatten(), (1, 0))[numbers.weight])


def _arguments(x: Tensor, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> UnitArguments:
    """Of a convolution whose weight, of this shape, is packed by itself."""
    weight = x.new_empty(1).expand(shape)
    fused = (None, None, weight, None, None, None, None, None)
    return UnitArguments(x, *fused, stride, padding, dilation, None, 0, False, False)


def _is_native(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32 and unit_native.library() is not None


# ---- what PyTorch is told of the operators ----


def _shape_only(x: Tensor, weight: Tensor, seen: Tensor, *window: Pair) -> Tensor:
    size = output_size(x.shape[2:], list(weight.shape[2:]), *window)
    return x.new_empty(x.shape[0], weight.shape[0], *size).to(memory_format=torch.channels_last)


def _backward_shapes(gradient: Tensor, x: Tensor, weight: Tensor, seen: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *_, for_x, for_weight = others
    to_x = x.new_empty(x.shape).to(memory_format=torch.channels_last) if for_x else weight.new_empty(0)
    return to_x, weight.new_empty(weight.shape if for_weight else 0)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, seen, *ctx.window = inputs
    ctx.save_for_backward(x, weight, seen)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    gradients = torch.ops.cheapconv.subdivided_conv2d_backward(gradient, *ctx.saved_tensors, *ctx.window, *wanted)
    return *(g if is_wanted else None for g, is_wanted in zip(gradients, wanted, strict=True)), *[None] * 4


def _flops(x: Any, weight: Any, *others: Any, out_shape: Any, **ignored: Any) -> int:
    """2 MACs of each weight at each position."""
    return 2 * math.prod(weight) * math.prod(out_shape) // weight[0]


def _backward_flops(gradient: Any, x: Any, weight: Any, seen: Any, *others: Any, **ignored: Any) -> int:
    *_, for_x, for_weight = others
    return (for_x + for_weight) * _flops(x, weight, out_shape=gradient)


def _register(name: str, on_cpu: Any, elsewhere: Any, shapes: Any, flops: Any) -> None:
    _library.impl(name, on_cpu, "CPU")
    _library.impl(name, elsewhere, "CompositeExplicitAutograd")
    torch.library.register_fake(f"cheapconv::{name}", shapes, lib=_library)
    register_flop_formula(getattr(torch.ops.cheapconv, name))(flops)


_register("subdivided_conv2d", _on_cpu, _elsewhere, _shape_only, _flops)
_register("subdivided_conv2d_backward", _backward_on_cpu, _backward_elsewhere, _backward_shapes, _backward_flops)
torch.library.register_autograd("cheapconv::subdivided_conv2d", _backward, setup_context=_save, lib=_library)

"""Multiply-adds of convolutions and linear layers, from shapes alone."""

import math

Shape = tuple[int, ...]


def conv_macs(weight_shape: Shape, output_shape: Shape) -> int:
    """Convolution: weight (out, in / groups, *kernel), output (N, out, *size): N out size in / groups kernel."""
    return math.prod(output_shape) * math.prod(weight_shape[1:])


def linear_macs(weight_shape: Shape, output_shape: Shape) -> int:
    """Linear: weight (out, in), output (..., out): one MAC for each input of each output."""
    return math.prod(output_shape) * weight_shape[1]


def conv_transpose_macs(weight_shape: Shape, input_shape: Shape) -> int:
    """Transposed convolution: weight (in, out / groups, *kernel), input (N, in, *size)."""
    return math.prod(input_shape) * math.prod(weight_shape[1:])

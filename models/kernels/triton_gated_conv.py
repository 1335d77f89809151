"""The CUDA kernels of cheapconv::gated_conv2d, in Triton: two launches, no synchronisation with the host.

1. `_gate` computes the gate of every position, appends the open ones to a list in memory (in any order: one atomic
   addition for each block of positions) and writes what closed ones hold.
2. `_convolve` multiplies a block of listed positions with a block of output channels. Its windows are gathered tap by
   tap, taps outside the image and past the last channel as zeros. The grid has room for every position; programs past
   the end of the list return at once.

Tensors are channels last: x and the weight are copied where they are not. Sums are float32, and float32 inputs are
multiplied as such (no TF32). Tested with Triton's interpreter and compiled for CUDA; on an
H100 it was timed, and is slower than cuDNN's fused convolution of every position (results/README.md, "On a GPU").
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .arguments import Arguments

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
POSITIONS = 64  # positions that a program takes
CHANNELS = 64  # at most so many output channels a program takes, and so many of the gate it reads at a time
DEPTH = 32  # at most so many input channels are multiplied at a time
LEAST = 16  # the smallest size that tl.dot takes
LARGEST = 2**31 - 1  # the largest offset, in int32


def can_run(a: Arguments) -> bool:
    """Whether the kernels take these arguments: one of DTYPES for all tensors, and fewer than 2^31 elements in each."""
    same_type = all(tensor.dtype == a.x.dtype for tensor in a.tensors) and a.x.dtype in DTYPES
    return same_type and max(math.prod(a.output_shape), a.x.numel(), a.weight.numel()) <= LARGEST


def gated_conv2d(a: Arguments) -> Tensor:
    """The operator of models/kernels/gated_conv.py, for tensors that `can_run` accepts."""
    size, groups = a.output_size, a.groups
    x, weight, gate_weight = _last(a.x), _last(a.weight), _last(a.gate_weight)
    residual = _last(a.residual) if a.residual is not None else None
    bias, scale, shift = (vector.contiguous() if vector is not None else None for vector in (a.bias, a.scale, a.shift))
    out = torch.empty(a.output_shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if out.numel() == 0:
        return out
    positions, channels, filters = len(x) * math.prod(size), x.shape[1], len(weight)
    gates = x.new_empty(positions, dtype=torch.float32)
    listed, count = x.new_empty(positions, dtype=torch.int32), x.new_zeros(1, dtype=torch.int32)
    shapes, steps = (positions, *x.shape[2:], *size), (*a.stride, *a.dilation)
    blocks = triton.cdiv(positions, POSITIONS)
    depth, wide = _block(channels // groups, DEPTH), _block(filters // groups, CHANNELS)
    find_open: Any = _gate[(blocks,)]
    convolve: Any = _convolve[(blocks * groups * triton.cdiv(filters // groups, wide),)]
    with torch.cuda.device_of(x):
        find_open(
            *(x, gate_weight, a.gate_bias, a.gate_ceiling, shift, residual, out, gates, listed, count, *shapes),
            *(channels, filters, *gate_weight.shape[2:], *steps, *a.gate_padding, a.relu),
            *(POSITIONS, _block(channels, CHANNELS), _block(filters, CHANNELS)),
        )
        convolve(
            *(x, weight, bias, scale, shift, residual, out, gates, listed, count, *shapes),
            *(channels, filters, groups, *weight.shape[2:], *steps, *a.padding, a.inner_relu, a.relu),
            *(POSITIONS, depth, wide),
        )
    return out


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _block(num: int, most: int) -> int:
    return min(most, max(LEAST, triton.next_power_of_2(num)))


@triton.jit
def _relu(value):
    return tl.where(value < 0, 0.0, value)  # NaN stays NaN, as in torch


@triton.jit
def _corner(position, ho, wo, sh: tl.constexpr, sw: tl.constexpr, ph: tl.constexpr, pw: tl.constexpr):
    """Image, and row and column in it of the first tap of a position's window, perhaps outside."""
    return position // (ho * wo), position // wo % ho * sh - ph, position % wo * sw - pw


@triton.jit
def _tap(image, top, left, tap, h, w, c: tl.constexpr, kw: tl.constexpr, dh: tl.constexpr, dw: tl.constexpr):
    """Where the channels of the pixels under a tap begin, and which of these are in the image."""
    row, column = top + tap // kw * dh, left + tap % kw * dw
    return ((image * h + row) * w + column) * c, (row >= 0) & (row < h) & (column >= 0) & (column < w)


@triton.jit
def _gate(
    x, weight, gate_bias, ceiling, shift, residual, out, gates, listed, count, positions, h, w, ho, wo,
    c: tl.constexpr, t: tl.constexpr, kh: tl.constexpr, kw: tl.constexpr, sh: tl.constexpr, sw: tl.constexpr,
    dh: tl.constexpr, dw: tl.constexpr, ph: tl.constexpr, pw: tl.constexpr, with_relu: tl.constexpr,
    block: tl.constexpr, depth: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """`gates` of closed positions may be negative: they are not read again."""
    position = tl.program_id(0) * block + tl.arange(0, block)
    exists = position < positions
    image, top, left = _corner(position, ho, wo, sh, sw, ph, pw)
    inputs = tl.arange(0, depth)
    products = tl.zeros((block, depth), tl.float32)
    for tap in range(kh * kw):
        start, inside = _tap(image, top, left, tap, h, w, c, kw, dh, dw)
        for first in range(0, c, depth):
            channel = first + inputs
            seen = (exists & inside)[:, None] & (channel < c)[None, :]
            values = tl.load(x + start[:, None] + channel[None, :], seen, 0.0)
            filters = tl.load(weight + tap * c + channel, channel < c, 0.0)
            products += values.to(tl.float32) * filters.to(tl.float32)[None, :]
    gate = tl.sum(products, 1) + tl.load(gate_bias).to(tl.float32)
    is_open = exists & ~(gate <= 0)  # NaN is open
    tl.store(gates + position, tl.where(gate > ceiling, ceiling, gate), exists)
    ones = is_open.to(tl.int32)
    place = tl.atomic_add(count, tl.sum(ones)) + tl.cumsum(ones) - 1
    tl.store(listed + place, position, is_open)
    for first in range(0, t, wide):
        channel = first + tl.arange(0, wide)
        closed = (exists & ~is_open)[:, None] & (channel < t)[None, :]
        nothing = tl.zeros((block, wide), tl.float32)
        _finish(nothing, shift, residual, out, position, channel, closed, t, with_relu)


@triton.jit
def _finish(value, shift, residual, out, position, channel, wanted, t: tl.constexpr, with_relu: tl.constexpr):
    """out = relu?(value + shift + residual) where `wanted`; value (positions, channels)."""
    place = position[:, None] * t + channel[None, :]
    if shift is not None:
        value += tl.load(shift + channel, channel < t, 0.0).to(tl.float32)[None, :]
    if residual is not None:
        value += tl.load(residual + place, wanted, 0.0).to(tl.float32)
    if with_relu:
        value = _relu(value)
    tl.store(out + place, value.to(out.dtype.element_ty), wanted)


@triton.jit
def _convolve(
    x, weight, bias, scale, shift, residual, out, gates, listed, count, positions, h, w, ho, wo,
    c: tl.constexpr, t: tl.constexpr, groups: tl.constexpr, kh: tl.constexpr, kw: tl.constexpr,
    sh: tl.constexpr, sw: tl.constexpr, dh: tl.constexpr, dw: tl.constexpr, ph: tl.constexpr, pw: tl.constexpr,
    inner_relu: tl.constexpr, with_relu: tl.constexpr, block: tl.constexpr, depth: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Neighbouring programs take the same positions, so that windows are read from the cache."""
    blocks: tl.constexpr = (t // groups + wide - 1) // wide  # blocks of output channels in one group
    program = tl.program_id(0)
    start = program // (groups * blocks) * block
    num = tl.load(count)
    if start >= num:
        return
    group = program // blocks % groups
    exists = start + tl.arange(0, block) < num
    position = tl.load(listed + start + tl.arange(0, block), exists, 0)
    own = program % blocks * wide + tl.arange(0, wide)  # output channels, counted in the group
    real = own < t // groups
    channel = group * (t // groups) + own
    image, top, left = _corner(position, ho, wo, sh, sw, ph, pw)
    sums = tl.zeros((block, wide), tl.float32)
    slices: tl.constexpr = (c // groups + depth - 1) // depth
    for step in range(kh * kw * slices):  # one loop, which the compiler can pipeline
        tap = step // slices
        inputs = (step - tap * slices) * depth + tl.arange(0, depth)
        begin, inside = _tap(image, top, left, tap, h, w, c, kw, dh, dw)
        some = inputs < c // groups
        windows = x + begin[:, None] + (group * (c // groups) + inputs)[None, :]
        filters = weight + (channel[None, :] * (kh * kw) + tap) * (c // groups) + inputs[:, None]
        a = tl.load(windows, (exists & inside)[:, None] & some[None, :], 0.0)
        b = tl.load(filters, some[:, None] & real[None, :], 0.0)
        sums = tl.dot(a, b, sums, input_precision="ieee")
    if bias is not None:
        sums += tl.load(bias + channel, real, 0.0).to(tl.float32)[None, :]
    if inner_relu:
        sums = _relu(sums)
    sums *= tl.load(gates + position, exists, 0.0)[:, None]
    if scale is not None:
        sums *= tl.load(scale + channel, real, 0.0).to(tl.float32)[None, :]
    _finish(sums, shift, residual, out, position, channel, exists[:, None] & real[None, :], t, with_relu)

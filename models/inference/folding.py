"""Fold BatchNorm into the convolution before it: one module that computes what several did in evaluation."""

import math
import operator

import torch
from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..kernels.fused_conv import FusedConv
from ..kernels.fused_gated_conv import FusedGatedConv
from ..kernels.fused_unit import Depthwise, FusedUnit, Step
from ..layers.lccl import GAIN, LCCL, Gate
from ..layers.subdivided import Subdivided

Affine = tuple[Tensor, Tensor]  # scale and shift of each channel, in double precision


def fused(module: nn.Conv2d | LCCL, then: Step) -> FusedConv | FusedGatedConv:
    """One module that computes `module`, then what follows it."""
    if isinstance(module, LCCL):
        return _fused_gated(module, then)
    weight, bias = _fold(module, then.affine)
    return FusedConv(ConvGeometry.of(module), weight, bias, ceiling=then.ceiling, add=then.add or operator.add)


def fused_depthwise(conv: nn.Conv2d, norm: Affine | None, ceiling: float | None) -> tuple[ConvGeometry, Depthwise]:
    """What of a unit stands before its projection."""
    return ConvGeometry.of(conv), Depthwise(*_fold(conv, norm), ceiling)


def fused_unit(
    before: tuple[ConvGeometry, Depthwise] | None, conv: nn.Conv2d | Subdivided, first: Step, second: Step
) -> FusedUnit:
    """One module that computes a depthwise convolution if any, then `conv`, which then is 1x1, then both steps."""
    own = conv.geometry if isinstance(conv, Subdivided) else ConvGeometry.of(conv)
    geometry, depthwise = before or (own, None)
    weight, bias = _fold(conv, first.affine)
    connections = weight.numel()
    if isinstance(conv, Subdivided):
        weight = conv.dense(weight)
    elif conv.groups > 1:
        weight = _ungrouped(weight, conv.groups)
    if second.affine is not None:
        scale, shift = (vector.to(weight.dtype) for vector in second.affine)
        second = second._replace(affine=(scale, shift))
    return FusedUnit(geometry, depthwise, weight, bias, connections, (first, second))


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """(T, C / groups, k, l) -> (T, C, k, l), with zeros where an output is not of an input's group."""
    wide = weight.new_zeros(groups, len(weight) // groups, groups, *weight.shape[1:])
    own = torch.arange(groups)
    wide[own, :, own] = weight.unflatten(0, (groups, -1))
    return wide.flatten(0, 1).flatten(1, 2)


def affine_of(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> Affine:
    """Scale and shift (T,) that `norm` applies in evaluation, with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def fold_into(module: nn.ConvTranspose2d, norm: Affine) -> None:
    """Let `module` compute `norm` too, behind itself."""
    scale, shift = norm  # the outputs are the second axis, within each group
    weight = module.weight.unflatten(0, (module.groups, -1)) * scale.view(module.groups, 1, -1, 1, 1)
    bias = shift if module.bias is None else module.bias * scale + shift
    module.bias = nn.Parameter(bias.to(module.weight.dtype), requires_grad=False)
    module.weight = nn.Parameter(weight.flatten(0, 1).to(module.weight.dtype), requires_grad=False)


def _fold(conv: nn.Conv2d | Subdivided, norm: Affine | None) -> tuple[Tensor, Tensor | None]:
    """Weight (T, ...) and bias (T,) of one convolution that computes `conv`, then `norm`."""
    if norm is None:
        return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    scale, shift = norm
    bias = shift if conv.bias is None else conv.bias * scale + shift
    return _by_output(conv.weight, scale), bias.to(conv.weight.dtype)


def _by_output(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight * scale.view(-1, 1, 1, 1)).to(weight.dtype)


def _fused_gated(layer: LCCL, then: Step) -> FusedGatedConv:
    """BatchNorm after the product becomes a scale, which a linear convolution can take in, and a shift."""
    conv, inner, inner_relu = _parts(layer.conv)
    weight, bias = _fold(conv, inner)
    scale, shift = (None, None) if then.affine is None else (vector.to(weight.dtype) for vector in then.affine)
    if scale is not None and not inner_relu:
        weight, bias, scale = _by_output(weight, scale), None if bias is None else bias * scale, None
    gate_weight, gate_bias, ceiling = _gate(layer.gate)
    left, _, top, _ = layer.gate.margins
    padding = ConvGeometry.of(layer.gate.conv).padding
    return FusedGatedConv(
        ConvGeometry.of(conv),
        weight,
        bias,
        gate_weight,
        gate_bias,
        (top + padding[0], left + padding[1]),
        ceiling,
        scale,
        shift,
        inner_relu=inner_relu,
        relu=then.relu,
        add=then.add or operator.add,
    )


def _gate(gate: Gate) -> tuple[Tensor, Tensor, float]:
    """Weight, bias and ceiling of the clamped convolution that computes `gate` in evaluation."""
    weight, bias = _fold(gate.conv, affine_of(gate.norm) if isinstance(gate.norm, nn.BatchNorm2d) else None)
    assert bias is not None
    if gate.offset is None:
        return weight, bias, math.inf
    return GAIN * weight, GAIN * bias + gate.offset, 1.0


def _parts(conv: nn.Module) -> tuple[nn.Conv2d, Affine | None, bool]:
    """What LCCL gates: a convolution, the BatchNorm behind it if any, and whether a ReLU follows."""
    first, *rest = conv.children() if isinstance(conv, nn.Sequential) else [conv]
    assert isinstance(first, nn.Conv2d)
    norm = next((affine_of(module) for module in rest if isinstance(module, nn.BatchNorm2d)), None)
    return first, norm, any(isinstance(module, nn.ReLU) for module in rest)

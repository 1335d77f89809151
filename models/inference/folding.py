"""Fold BatchNorm into the convolution before it: one module that computes what several did in evaluation."""

import math

from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..layers.lccl import GAIN, LCCL, Gate
from ..layers.subdivided import Subdivided
from .kernels.fused_conv import Add, FusedConv
from .kernels.fused_gated_conv import FusedGatedConv

Affine = tuple[Tensor, Tensor]  # scale and shift of each channel, in double precision


def fused(module: nn.Conv2d | LCCL, norm: Affine | None, add: Add, *, relu: bool) -> FusedConv | FusedGatedConv:
    """One module that computes `module`, then `norm`, then adds its second input, if it is given one, then ReLU."""
    if isinstance(module, LCCL):
        return _fused_gated(module, norm, add, relu=relu)
    weight, bias = _fold(module, norm)
    return FusedConv(ConvGeometry.of(module), weight, bias, relu=relu, add=add)


def affine_of(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> Affine:
    """Scale and shift (T,) that `norm` applies in evaluation, with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def fold_into(module: Subdivided | nn.ConvTranspose2d, norm: Affine) -> None:
    """Let `module` compute `norm` too, behind itself."""
    scale, shift = norm
    if isinstance(module, nn.ConvTranspose2d):  # its outputs are the second axis, within each group
        weight = module.weight.unflatten(0, (module.groups, -1)) * scale.view(module.groups, 1, -1, 1, 1)
        weight = weight.flatten(0, 1).to(module.weight.dtype)
    else:
        weight = _by_output(module.weight, scale)
    bias = shift if module.bias is None else module.bias * scale + shift
    module.bias = nn.Parameter(bias.to(module.weight.dtype), requires_grad=False)
    module.weight = nn.Parameter(weight, requires_grad=False)


def _fold(conv: nn.Conv2d, norm: Affine | None) -> tuple[Tensor, Tensor | None]:
    """Weight (T, ...) and bias (T,) of one convolution that computes `conv`, then `norm`."""
    if norm is None:
        return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    scale, shift = norm
    bias = shift if conv.bias is None else conv.bias * scale + shift
    return _by_output(conv.weight, scale), bias.to(conv.weight.dtype)


def _by_output(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight * scale.view(-1, 1, 1, 1)).to(weight.dtype)


def _fused_gated(layer: LCCL, norm: Affine | None, add: Add, *, relu: bool) -> FusedGatedConv:
    """BatchNorm after the product becomes a scale, which a linear convolution can take in, and a shift."""
    conv, inner, inner_relu = _parts(layer.conv)
    weight, bias = _fold(conv, inner)
    scale, shift = (None, None) if norm is None else (vector.to(weight.dtype) for vector in norm)
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
        relu=relu,
        add=add,
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

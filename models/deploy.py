"""Make a trained network ready for inference: BatchNorm folded, additions and ReLU fused, gates that skip."""

import copy
import math
import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from models.geometry import ConvGeometry
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_gated_conv import FusedGatedConv
from models.layers.lccl import GAIN, LCCL, Gate
from models.memory_format import channels_last

ADDITIONS = {operator.add, operator.iadd, torch.add}
RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}


def deploy(net: nn.Module) -> fx.GraphModule:
    """A copy of `net` for inference that computes the same, to rounding; `net` itself stays as it is.

    Every convolution, gated or not, takes in the BatchNorm, the addition and the ReLU that follow it, and a gated
    one with one map for all outputs skips closed positions (models/kernels/gated_conv.py; models/gate_choice.py can
    measure where that pays). Gates for single outputs (LCCL's `gate_channels="each"`) stay dense products: hardly a
    tile of a matrix product has all its outputs closed, so nothing is to be gained. The copy is channels-last and
    takes no gradients.

    Raises ValueError where the forward pass is not the same for all inputs, so that torch.fx cannot record it.
    """
    net = channels_last(copy.deepcopy(net).eval().requires_grad_(False))
    try:
        graph = _Tracer().trace(net)
    except (TraceError, TypeError) as failure:
        raise ValueError(
            f"{type(net).__name__} cannot be deployed: torch.fx cannot record its forward pass ({failure}); "
            "take decisions that depend on the input out of it"
        ) from failure
    deployed = fx.GraphModule(net, graph)
    _drop_identities(deployed)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        if node.op == "call_module" and calls[node.target] == 1:
            _fuse(deployed, node, deployed.get_submodule(node.target))
    deployed.delete_all_unused_submodules()
    graph.lint()
    deployed.recompile()
    return deployed


class _Tracer(fx.Tracer):
    """Keeps gated layers whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LCCL) or super().is_leaf_module(m, module_qualified_name)


def _drop_identities(net: fx.GraphModule) -> None:
    for node in list(net.graph.nodes):
        if node.op == "call_module" and isinstance(net.get_submodule(node.target), nn.Identity | nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            net.graph.erase_node(node)


def _fuse(net: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Replace a convolution and as much of BatchNorm, addition and ReLU as follows it by one module."""
    if not _can_fuse(module):
        return
    chain, norm, residual = [node], None, None
    if isinstance(found := _next_module(net, chain[-1]), nn.BatchNorm2d) and found.track_running_stats:
        norm = found
        chain.append(_only_user(chain[-1]))
    if (user := _only_user(chain[-1])) is not None and _is_addition(user):
        residual = next((operand for operand in user.args if operand is not chain[-1]), None)
        chain += [user] if isinstance(residual, fx.Node) else []
    with_relu = _is_relu(net, user := _only_user(chain[-1]))
    chain += [user] if with_relu else []
    net.set_submodule(str(node.target), _fused(module, norm, relu=with_relu))
    with net.graph.inserting_after(chain[-1]):
        inputs = (node.args[0], residual) if isinstance(residual, fx.Node) else (node.args[0],)
        fused = net.graph.call_module(str(node.target), inputs)
    chain[-1].replace_all_uses_with(fused)
    for part in reversed(chain):
        net.graph.erase_node(part)


def _can_fuse(module: nn.Module) -> bool:
    if isinstance(module, LCCL):
        return module.gate.conv.out_channels == 1
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _only_user(node: fx.Node) -> Any:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _next_module(net: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    user = _only_user(node)
    return net.get_submodule(user.target) if user is not None and user.op == "call_module" else None


def _is_addition(node: fx.Node) -> bool:
    plain = node.op == "call_function" and len(node.args) == 2 and not node.kwargs
    return plain and node.target in ADDITIONS and node.args[0] is not node.args[1]


def _is_relu(net: fx.GraphModule, node: fx.Node | None) -> bool:
    if node is None:
        return False
    if node.op == "call_module":
        return isinstance(net.get_submodule(str(node.target)), nn.ReLU)
    return node.op in ("call_function", "call_method") and node.target in RELUS


def _fused(module: nn.Module, norm: nn.BatchNorm2d | None, *, relu: bool) -> nn.Module:
    if isinstance(module, LCCL):
        return _fused_gated(module, norm, relu=relu)
    assert isinstance(module, nn.Conv2d)
    weight, bias = fold(module.weight, module.bias, norm)
    return FusedConv(ConvGeometry.of(module), weight, bias, relu=relu)


def _fused_gated(layer: LCCL, norm: nn.BatchNorm2d | None, *, relu: bool) -> FusedGatedConv:
    """BatchNorm after the product becomes a scale, which a linear convolution can take in, and a shift."""
    conv, inner, inner_relu = _parts(layer.conv)
    weight, bias = fold(conv.weight, conv.bias, inner)
    scale, shift = affine(norm) if norm else (None, None)
    if scale is not None and not inner_relu:
        weight, bias, scale = weight * scale[:, None, None, None], bias * scale if bias is not None else None, None
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
    )


def _gate(gate: Gate) -> tuple[Tensor, Tensor, float]:
    """Weight, bias and ceiling of the clamped convolution that `gate` is in evaluation."""
    norm = gate.norm if isinstance(gate.norm, nn.BatchNorm2d) else None
    weight, bias = fold(gate.conv.weight, gate.conv.bias, norm)
    assert bias is not None
    if gate.offset is None:
        return weight, bias, math.inf
    return GAIN * weight, GAIN * bias + gate.offset, 1.0


def _parts(conv: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d | None, bool]:
    """What LCCL gates: a convolution, the BatchNorm behind it if any, and whether a ReLU follows."""
    first, *rest = conv.children() if isinstance(conv, nn.Sequential) else [conv]
    assert isinstance(first, nn.Conv2d)
    norm = next((module for module in rest if isinstance(module, nn.BatchNorm2d)), None)
    return first, norm, any(isinstance(module, nn.ReLU) for module in rest)


def fold(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor | None]:
    """Weight (T, ...) and bias (T,) of the convolution that is convolution, then `norm` in evaluation."""
    if norm is None:
        return weight.detach(), bias.detach() if bias is not None else None
    scale, shift = affine(norm)
    return weight.detach() * scale.view(-1, 1, 1, 1), shift if bias is None else bias.detach() * scale + shift


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (T,) that `norm` applies in evaluation."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    return scale.to(mean.dtype), shift.to(mean.dtype)

"""What the calls in a recorded forward pass compute."""

import inspect
import math
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .recording import has_hooks

NORMS = {nn.BatchNorm2d, nn.SyncBatchNorm}
RELUS = {nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"}
CLAMPS = {torch.clamp, torch.clamp_, torch.clamp_min, torch.clamp_min_, "clamp", "clamp_", "clamp_min", "clamp_min_"}


def kind(net: fx.GraphModule, node: fx.Node) -> Any:
    """The class of the module, the function or the name of the method that `node` calls.

    None where it calls nothing, or what may write anywhere: a module with hooks, or a function that is given an `out`.
    """
    if node.op == "call_module":
        module = module_of(net, node)
        return None if has_hooks(module) else type(module)
    return node.target if node.op in ("call_function", "call_method") and "out" not in node.kwargs else None


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of `node`, which calls a function written in Python, by name, defaults included."""
    assert callable(node.target)
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def module_of(net: fx.GraphModule, node: fx.Node) -> Any:
    """The module that `node` calls."""
    return net.get_submodule(str(node.target))


def is_norm(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` calls a BatchNorm with statistics of its own."""
    plain = kind(net, node) in NORMS and len(node.args) == 1 and not node.kwargs
    return plain and module_of(net, node).running_mean is not None


def ceiling_of(net: fx.GraphModule, node: fx.Node) -> float | None:
    """The upper limit where `node` limits its first argument to 0 and that, infinity for a ReLU; None elsewhere."""
    if not node.args or not isinstance(node.args[0], fx.Node):
        return None
    called = kind(net, node)
    if called in RELUS:
        return math.inf
    if called in CLAMPS:
        low, high = _bounds(*node.args[1:], **node.kwargs)
    elif called in (F.hardtanh, F.relu6):
        given = {"min_val": 0, "max_val": 6} | arguments(node)  # relu6 has neither
        low, high = given["min_val"], given["max_val"]
    elif called in (nn.ReLU6, nn.Hardtanh):
        module = module_of(net, node)
        low, high = module.min_val, module.max_val
    else:
        return None
    high = math.inf if high is None else high
    return high if low == 0 and isinstance(high, int | float) else None


def is_relu(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` computes the ReLU of its first argument."""
    return ceiling_of(net, node) == math.inf


def _bounds(min: Any = None, max: Any = None) -> tuple[Any, Any]:
    """The limits given to torch.clamp or torch.clamp_min, after its first argument."""
    return min, max

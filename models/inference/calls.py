"""What the calls in a recorded forward pass compute."""

import inspect
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

    None where it calls nothing, or a module with hooks, which may do anything.
    """
    if node.op == "call_module":
        module = net.get_submodule(str(node.target))
        return None if has_hooks(module) else type(module)
    return node.target if node.op in ("call_function", "call_method") else None


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


def is_relu(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` computes the ReLU of its first argument."""
    called = kind(net, node)
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    return called in RELUS or (called in CLAMPS and _bounds(*node.args[1:], **node.kwargs) == (0, None))


def _bounds(min: Any = None, max: Any = None) -> tuple[Any, Any]:
    """The limits given to torch.clamp or torch.clamp_min, after its first argument."""
    return min, max

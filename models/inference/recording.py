"""Record a network's forward pass as one graph; what cannot be recorded is kept as it is, a single call."""

import inspect
import logging
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from ..errors import first_line
from ..layers.lccl import LCCL
from ..layers.subdivided import Subdivided
from ..training.penalty import GatePenalty

log = logging.getLogger(__name__)
AUGMENTED = (
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul"),
    *("iand", "ior", "ixor", "ilshift", "irshift"),
)


def record(net: nn.Module) -> fx.GraphModule:
    """The graph of `net`, whose modules it shares, in the mode (training or evaluation) that they are in.

    Modules of torch.nn, gated layers, modules with hooks and those whose own forward pass torch.fx cannot record stay
    whole: the graph calls them. Of the last two kinds those that contain convolutions are named in the log.
    Raises ValueError where that would be all of the network, or where its forward pass changes buffers or itself draws
    random numbers, which a record would do once and never again.
    """
    name = type(net).__name__
    if has_hooks(net):
        raise ValueError(f"{name} cannot be deployed with hooks of its own, which would be lost; remove them first")
    recorder, before, random = _Recorder(), _state(net), torch.get_rng_state()
    try:
        parameters = inspect.signature(net.forward).parameters.values()
        # A stand-in for an argument that is left out would not be None, and the network would go another way.
        left_out = {p.name: p.default for p in parameters if p.default is not p.empty}
        graph = recorder.trace(net, left_out or None)
    except Exception as failure:  # whatever the network's own code makes of stand-ins for tensors
        raise ValueError(
            f"{name} cannot be deployed: torch.fx cannot record its own forward pass ({failure}); move what is "
            "not the same for all inputs there into a submodule, which is then kept whole"
        ) from failure
    if changed := [key for key, state in _state(net).items() if state != before.get(key)]:
        raise ValueError(f"{name} cannot be deployed: its forward pass changes {', '.join(changed)} in evaluation")
    if not torch.equal(random, torch.get_rng_state()):
        raise ValueError(f"{name} cannot be deployed: it draws random numbers, which would be the same in each call")
    for kept, reason in recorder.kept.items():
        if any(_convolves(module) for module in net.get_submodule(kept).modules()):
            log.info(f"{kept} stays as it is, its convolutions too: {reason}")
    return fx.GraphModule(net, graph)


def _convolves(module: nn.Module) -> bool:
    """Whether `module` is a convolution, or one of our layers that computes like one (models/layers/__init__.py)."""
    return isinstance(module, nn.Conv2d) or hasattr(module, "macs")


def has_hooks(module: nn.Module) -> bool:
    """Whether calling `module` does more than its forward pass; the gate penalty's hooks act in training alone."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not isinstance(getattr(hook, "__self__", None), GatePenalty) for hook in hooks)


def _state(net: nn.Module) -> dict[str, tuple[int, int]]:
    """For each buffer, by name, the identity of its tensor and how often this was written to."""
    return {name: (id(buffer), buffer._version) for name, buffer in net.named_buffers()}


def inplace(name: str, a: Any, b: Any) -> Any:
    """operator.<name>, one of Python's augmented assignments, by a call that the graph can hold."""
    return getattr(operator, name)(a, b)


class _Value(fx.Proxy):
    """torch.fx's stand-in for a tensor, but it records `x += y`, not `x = x + y`, and does not refuse `x[i] = y`."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("node", "tracer"):
            raise TraceError(f"it sets .{name} of a tensor")
        super().__setattr__(name, value)


def _augmented(name: str) -> Callable[[_Value, Any], Any]:
    return lambda a, b: a.tracer.create_proxy("call_function", inplace, (name, a, b), {})


for _name in AUGMENTED:
    setattr(_Value, f"__{_name}__", _augmented(_name))


class _Recorder(fx.Tracer):
    """torch.fx's recorder, but a module that it cannot record becomes one call; `kept` has the reason by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, str] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if has_hooks(m):
            self.kept[module_qualified_name] = "it has hooks"
            return True
        kept = module_qualified_name in self.kept
        return kept or type(m) in (LCCL, Subdivided) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        *_, last = self.graph.nodes
        stack, random = self.module_stack.copy(), torch.get_rng_state()
        attributes = {module: module.__dict__.copy() for module in m.modules()}
        try:
            result = super().call_module(m, forward, args, kwargs)
            if torch.equal(random, torch.get_rng_state()):
                return result
            reason = "it draws random numbers"
        except Exception as failure:  # see record
            reason = f"torch.fx cannot record its forward pass ({first_line(failure).partition('. ')[0]})"
        torch.set_rng_state(random)
        self.module_stack = stack
        for module, values in attributes.items():  # they may have kept stand-ins
            module.__dict__.clear()
            module.__dict__.update(values)
        for node in reversed(self.graph.nodes):
            if node is last:
                break
            self.graph.erase_node(node)
        self.kept[self.path_of_module(m)] = reason
        return super().call_module(m, forward, args, kwargs)

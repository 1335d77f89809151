"""Which calls of a recorded network one module can compute: a convolution and what follows it."""

import math
import operator

import torch
from torch import fx, nn

from ..geometry import ConvGeometry
from ..kernels.fused_conv import Add
from ..kernels.fused_unit import Depthwise, Step
from ..layers.lccl import LCCL
from ..layers.subdivided import Subdivided
from .calls import ceiling_of, is_norm, kind, module_of
from .folding import Affine, affine_of, fused, fused_depthwise, fused_unit
from .memory import Memory
from .recording import has_hooks, inplace

ADDITIONS = {operator.add, torch.add, "add", "add_"}


def can_start(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` calls a convolution that a chain can begin with."""
    if len(node.args) != 1 or node.kwargs:
        return False
    if kind(net, node) not in (nn.Conv2d, LCCL, Subdivided):
        return False
    module = module_of(net, node)
    if isinstance(module, LCCL):
        return module.gate.conv.out_channels == 1 and not any(has_hooks(part) for part in module.modules())
    return isinstance(module, Subdivided) or (module.padding_mode == "zeros" and not isinstance(module.padding, str))


class Chain:
    """A convolution, and as many of the BatchNorms, additions and ReLUs behind it as one module can compute.

    A depthwise convolution and the projection behind it, or a subdivided one, make a unit, which takes a BatchNorm, an
    addition and a ReLU twice; any other convolution takes them once. `calls` are their calls; each but the last has the
    next as its only user, and the module runs in the place of the last. `reads` are the values that they take from
    elsewhere, each with the call that takes it. `apart` are the names of the modules that may be taken in.
    """

    def __init__(self, net: fx.GraphModule, memory: Memory, conv: fx.Node, apart: set[str]) -> None:
        self.net, self.memory, self.apart = net, memory, apart
        self.calls, self.reads = [conv], [(conv.all_input_nodes[0], conv)]
        self.depthwise = self._depthwise()
        self.conv = module_of(net, self.calls[-1])
        self.first = self._step()
        self.second = self._step() if self._is_unit() else None

    def module(self) -> nn.Module:
        if self.second is not None:
            return fused_unit(self.depthwise, self.conv, self.first, self.second)
        return fused(self.conv, self.first)

    def _is_unit(self) -> bool:
        return self.depthwise is not None or isinstance(self.conv, Subdivided)

    def _depthwise(self) -> tuple[ConvGeometry, Depthwise] | None:
        """The first convolution where it is depthwise and a projection follows, which then is the last call."""
        conv, taken = module_of(self.net, self.calls[0]), list(self.calls)
        if not isinstance(conv, nn.Conv2d) or not 1 < conv.groups == conv.in_channels:
            return None
        norm, ceiling = self._norm(), self._ceiling(any_limit=True)
        if (call := self._next()) is None or not self._projects(call):
            self.calls = taken
            return None
        self.calls.append(call)
        return fused_depthwise(conv, norm, ceiling)

    def _projects(self, call: fx.Node) -> bool:
        """Whether `call` is that of a 1x1 convolution of every position."""
        if kind(self.net, call) not in (nn.Conv2d, Subdivided) or str(call.target) not in self.apart:
            return False
        conv = module_of(self.net, call)
        g = conv.geometry if isinstance(conv, Subdivided) else ConvGeometry.of(conv)
        return can_start(self.net, call) and g.kernel_size == (1, 1) and g.keeps_size

    def _step(self) -> Step:
        norm, add = self._norm(), None
        if (call := self._next()) is not None and (found := self._added(call)) is not None:
            add, other = found
            self.calls.append(call)
            self.reads.append((other, call))
        return Step(
            norm, add, self._ceiling(any_limit=add is None and type(self.conv) is nn.Conv2d and not self._is_unit())
        )

    def _ceiling(self, *, any_limit: bool) -> float | None:
        """The upper limit of the next call where it clamps to 0 and that; only a ReLU's, unless `any_limit`."""
        call = self._next()
        ceiling = None if call is None else ceiling_of(self.net, call)
        if call is None or ceiling is None or not (any_limit or ceiling == math.inf):
            return None
        self.calls.append(call)
        return ceiling

    def _norm(self) -> Affine | None:
        """Scale and shift of the next call where it is a BatchNorm with statistics of its own."""
        call = self._next()
        if call is None or not is_norm(self.net, call):
            return None
        self.calls.append(call)
        return affine_of(module_of(self.net, call))

    def _next(self) -> fx.Node | None:
        """The only user of the last call; None where it has several or a value in `reads` is written to before."""
        last = self.calls[-1]
        if len(last.users) != 1:
            return None
        user = next(iter(last.users))
        kept = all(self.memory.unchanged(value, call, user, but_by=self.calls) for value, call in self.reads)
        return user if kept else None

    def _added(self, call: fx.Node) -> tuple[Add, fx.Node] | None:
        """How `call` adds and the other operand, in place only where it writes to the chain's own value."""
        called, operands = kind(self.net, call), call.args
        if called is inplace and operands[0] == "iadd":
            called, operands = "add_", operands[1:]
        if called not in ADDITIONS or len(operands) != 2 or call.kwargs or operands[0] is operands[1]:
            return None
        first, second = operands
        add = operator.iadd if called == "add_" else operator.add
        other = second if first is self.calls[-1] else first if called != "add_" else None
        return (add, other) if isinstance(other, fx.Node) else None

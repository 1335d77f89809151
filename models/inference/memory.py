"""Which values of a recorded forward pass may share memory, and which calls write to it.

What is not known to be otherwise counts as the worst: a call returns memory of its arguments, and a call of unknown
code writes to all of them.
"""

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .. import layers
from ..layers.lccl import LCCL
from ..layers.subdivided import Subdivided
from .calls import arguments, kind
from .recording import inplace

# Modules and functions that return memory of their own, whatever their arguments.
FRESH = {nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.Linear, F.batch_norm, torch.relu}
FRESH |= {LCCL, Subdivided, torch.cat}


class Memory:
    """Which values in the graph of `net` may share memory, and which calls write to them."""

    def __init__(self, net: fx.GraphModule) -> None:
        self.net = net
        self.order = {node: position for position, node in enumerate(net.graph.nodes)}
        self.shares: dict[fx.Node, fx.Node] = {}  # a node -> another one that may share its memory, up to a root
        self.writes: list[tuple[fx.Node, fx.Node]] = []  # a call, and a value that it writes to
        for node in net.graph.nodes:
            if kind(net, node) not in FRESH:
                for value in node.all_input_nodes:
                    self._join(value, node)
            self.writes += [(node, value) for value in self._written(node)]

    def unchanged(self, value: fx.Node, after: fx.Node, until: fx.Node, but_by: list[fx.Node]) -> bool:
        """Whether nothing that runs between two calls writes to `value`, apart from the calls `but_by`."""
        first, last = self.order[after], self.order[until]
        return not any(
            first < self.order[call] < last and call not in but_by and self._root(written) is self._root(value)
            for call, written in self.writes
        )

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """`new` runs where `old` did and stands for its value."""
        self.order[new] = self.order[old]
        self._join(new, old)

    def _join(self, a: fx.Node, b: fx.Node) -> None:
        if self._root(a) is not self._root(b):
            self.shares[self._root(a)] = self._root(b)

    def _root(self, node: fx.Node) -> fx.Node:
        while node in self.shares:
            node = self.shares[node]
        return node

    def _written(self, node: fx.Node) -> list[fx.Node]:
        """The arguments that a call may write to."""
        called, given = kind(self.net, node), node.all_input_nodes
        match node.op:
            case "call_method" if called is not None:
                writes = called.endswith("_")
            case "call_function" if called is not None and _is_known(called):
                writes = _is_inplace(node)
            case "call_module" if called is not None and called.__module__.startswith(("torch.nn.", layers.__name__)):
                writes = getattr(self.net.get_submodule(str(node.target)), "inplace", False)
            case "call_function" | "call_method" | "call_module":
                return given
            case _:
                return []
        return given[:1] if writes else []


def _is_known(function: Any) -> bool:
    """Whether `function` comes with PyTorch or Python, so that it writes to its first argument or to none."""
    home = (function.__module__ or "torch").partition(".")[0]
    return function is inplace or home in ("torch", "_operator", "builtins", "math")


def _is_inplace(node: fx.Node) -> bool:
    function: Any = node.target
    if function in (inplace, operator.setitem) or function.__name__.endswith("_"):
        return True
    names = getattr(getattr(function, "__code__", None), "co_varnames", ())
    return "inplace" in names and bool(arguments(node)["inplace"])

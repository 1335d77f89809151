"""Activations that write where they read, so that a deployed network makes fewer large maps."""

import operator

import torch
from torch import fx, nn

from ..kernels.fused_conv import FusedConv
from ..kernels.fused_gated_conv import FusedGatedConv
from ..kernels.fused_unit import FusedUnit
from .calls import is_relu, kind, module_of
from .memory import FRESH

NEW_TENSORS = FRESH | {FusedConv, FusedGatedConv, FusedUnit, operator.add, operator.mul, torch.add, torch.mul}
ACTIVATIONS = {nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.LeakyReLU, nn.ELU}


def activate_in_place(net: fx.GraphModule) -> None:
    """Where nothing else reads what an activation is given, and it is a tensor with memory of its own."""
    calls = [str(node.target) for node in net.graph.nodes if node.op == "call_module"]
    for node in net.graph.nodes:
        given = node.all_input_nodes
        if len(given) != 1 or len(given[0].users) != 1 or kind(net, given[0]) not in NEW_TENSORS:
            continue
        if is_relu(net, node):
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (given[0],), {}
        elif kind(net, node) in ACTIVATIONS and calls.count(str(node.target)) == 1:
            module_of(net, node).inplace = True

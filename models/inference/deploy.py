"""Make a trained network ready for inference: BatchNorm folded, additions and ReLU fused, gates that skip."""

import copy
import itertools
import operator
from collections import Counter
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from ..layers.lccl import LCCL
from ..layers.subdivided import Subdivided
from ..memory_format import channels_last
from .calls import arguments, is_norm, is_relu, kind, module_of
from .folding import Add, Affine, affine_of, fold_into, fused
from .memory import Memory
from .recording import has_hooks, inplace, record
from .reordering import move_before_rearrangements

ADDITIONS = {operator.add, torch.add, "add", "add_"}


def deploy(net: nn.Module) -> fx.GraphModule:
    """A copy of `net` for inference that computes the same, to rounding; `net` itself stays as it is.

    Every convolution, gated or not, takes in the BatchNorm, the addition and the ReLU that follow it, and a gated
    one with one map for all outputs skips closed positions (kernels/gated_conv.py; gate_choice.py measures
    where that pays). A layer with a gate for each output (LCCL's `gate_channels="each"`) stays dense, because hardly a
    tile of a matrix product has all its outputs closed. The copy is channels-last and takes no gradients.

    Nothing is fused across a write to what it reads. Modules whose own forward pass is not the same for all inputs
    stay as they are, convolutions in them too; the log names these (models/inference/recording.py).
    Raises ValueError where that is so of the network itself. Whether another engine is faster, engines.py measures.
    """
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode do not count the writes to them
        net = channels_last(_copy(net).eval().requires_grad_(False))
        _split_activations(net)
        deployed = record(net)
        _drop_identities(deployed)
        move_before_rearrangements(deployed)
        _fold_norms(deployed)
        _fuse_all(deployed)
    deployed.delete_all_unused_submodules()
    deployed.graph.lint()
    deployed.recompile()
    return deployed


def _copy(net: nn.Module) -> nn.Module:
    """A deep copy, also of weights that are computed from others, as weight normalisation and pruning leave them."""
    computed = (value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return copy.deepcopy(net, {id(value): value.detach().clone() for value in computed if not value.is_leaf})


def _split_activations(net: nn.Module) -> None:
    """timm's BatchNorm with an activation inside, as the two modules that it stands for."""
    found = {name: module for name, module in net.named_modules() if name and type(module) is BatchNormAct2d}
    module: Any
    for name, module in found.items():
        if has_hooks(module):
            continue
        norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine).eval()
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(norm, part, getattr(module, part))
        net.set_submodule(name, nn.Sequential(norm, *module.children()))  # what drops, and the activation


def _drop_identities(net: fx.GraphModule) -> None:
    for node in list(net.graph.nodes):
        called = kind(net, node)
        is_identity = isinstance(called, type) and issubclass(called, nn.Identity | _DropoutNd)
        if is_identity or (called is F.dropout and not arguments(node)["training"]):
            node.replace_all_uses_with(node.all_input_nodes[0])
            net.graph.erase_node(node)


def _fold_norms(net: fx.GraphModule) -> None:
    """Into what takes in a BatchNorm and nothing else."""
    apart = _called_once(net.graph)
    for node in list(net.graph.nodes):
        if not is_norm(net, node):
            continue
        before = node.all_input_nodes[0]
        takes_in = kind(net, before) in (Subdivided, nn.ConvTranspose2d) and str(before.target) in apart
        if takes_in and len(before.users) == 1:
            fold_into(module_of(net, before), affine_of(module_of(net, node)))
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)


def _fuse_all(net: fx.GraphModule) -> None:
    apart, memory = _called_once(net.graph), Memory(net)
    for node in list(net.graph.nodes):
        if str(node.target) not in apart or not _can_fuse(net, node):
            continue
        chain = _Chain(net, memory, node)
        net.set_submodule(str(node.target), chain.module())
        with net.graph.inserting_after(chain.calls[-1]):
            call = net.graph.call_module(str(node.target), tuple(value for value, _ in chain.reads))
        memory.replace(chain.calls[-1], call)
        chain.calls[-1].replace_all_uses_with(call)
        for part in reversed(chain.calls):
            net.graph.erase_node(part)


def _called_once(graph: fx.Graph) -> set[str]:
    """The names of modules that are called once, where no part of them and none around them is used elsewhere."""
    named = Counter(str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr"))
    holders = {holder for name in named for holder in _holders(name)}
    return {
        name
        for name, uses in named.items()
        if uses == 1 and name not in holders and not any(holder in named for holder in _holders(name))
    }


def _holders(name: str) -> list[str]:
    """The names of the modules that contain `name`: "a" and "a.b" for "a.b.c"."""
    return list(itertools.accumulate(name.split(".")[:-1], "{}.{}".format))


def _can_fuse(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` calls a convolution that FusedConv can compute, or a gated one that FusedGatedConv can."""
    if len(node.args) != 1 or node.kwargs:
        return False
    if kind(net, node) not in (nn.Conv2d, LCCL):
        return False
    module = net.get_submodule(str(node.target))
    if isinstance(module, LCCL):
        return module.gate.conv.out_channels == 1 and not any(has_hooks(part) for part in module.modules())
    assert isinstance(module, nn.Conv2d)
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


class _Chain:
    """A convolution, and as many of the BatchNorm, the addition and the ReLU behind it as one module can compute.

    `calls` are their calls; each but the last has the next as its only user, and the module runs in the place of the
    last. `reads` are the values that they take from elsewhere, each with the call that takes it.
    """

    def __init__(self, net: fx.GraphModule, memory: Memory, conv: fx.Node) -> None:
        self.net, self.memory = net, memory
        self.calls, self.reads = [conv], [(conv.all_input_nodes[0], conv)]
        self.norm: Affine | None = None
        self.add: Add = operator.add
        if (call := self._next()) is not None and (norm := self._affine(call)) is not None:
            self.norm = norm
            self.calls.append(call)
        if (call := self._next()) is not None and (other := self._added(call)) is not None:
            self.calls.append(call)
            self.reads.append((other, call))
        self.relu = (call := self._next()) is not None and is_relu(self.net, call)
        if call is not None and self.relu:
            self.calls.append(call)

    def module(self) -> nn.Module:
        first = self.net.get_submodule(str(self.calls[0].target))
        assert isinstance(first, nn.Conv2d | LCCL)
        return fused(first, self.norm, self.add, relu=self.relu)

    def _next(self) -> fx.Node | None:
        """The only user of the last call; None where it has several or a value in `reads` is written to before."""
        last = self.calls[-1]
        if len(last.users) != 1:
            return None
        user = next(iter(last.users))
        kept = all(self.memory.unchanged(value, call, user, but_by=self.calls) for value, call in self.reads)
        return user if kept else None

    def _affine(self, call: fx.Node) -> Affine | None:
        """Scale and shift of `call` where it is a BatchNorm with statistics of its own."""
        return affine_of(module_of(self.net, call)) if is_norm(self.net, call) else None

    def _added(self, call: fx.Node) -> fx.Node | None:
        """The other operand where `call` is an addition, in place only where it writes to the chain's own value."""
        called, operands = kind(self.net, call), call.args
        if called is inplace and operands[0] == "iadd":
            called, operands = "add_", operands[1:]
        if called not in ADDITIONS or len(operands) != 2 or call.kwargs or operands[0] is operands[1]:
            return None
        first, second = operands
        self.add = operator.iadd if called == "add_" else operator.add
        if first is self.calls[-1]:
            return second if isinstance(second, fx.Node) else None
        return first if isinstance(first, fx.Node) and called != "add_" else None

"""Make a trained network ready for inference: BatchNorm folded, additions and ReLU fused, gates that skip."""

import copy
import itertools
from collections import Counter
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from ..kernels.max_pool import MaxPool
from ..kernels.packed_linear import PackedLinear
from ..memory_format import channels_last
from .calls import arguments, is_norm, kind, module_of
from .chains import Chain, can_start
from .folding import affine_of, fold_into
from .in_place import activate_in_place
from .memory import Memory
from .recording import has_hooks, record
from .reordering import move_before_rearrangements, name_shuffles


def deploy(net: nn.Module) -> fx.GraphModule:
    """A copy of `net` for inference that computes the same, to rounding; `net` itself stays as it is.

    Every convolution, gated or not, takes in the BatchNorm, the addition and the ReLU that follow it, and a gated
    one with one map for all outputs skips closed positions (kernels/gated_conv.py; gate_choice.py measures
    where that pays). A layer with a gate for each output (LCCL's `gate_channels="each"`) stays dense, because hardly a
    tile of a matrix product has all its outputs closed. A depthwise convolution and the projection behind it run in one
    pass, and a subdivided convolution multiplies only what is connected (chains.py, kernels/unit.py). The copy is
    channels-last and takes no gradients.
    What stands behind a concatenation or a shuffle of convolutions goes into these where it can (reordering.py), and an
    activation that is left writes in place (in_place.py).

    Nothing is fused across a write to what it reads. Modules whose own forward pass is not the same for all inputs
    stay as they are, convolutions in them too; the log names these (models/inference/recording.py).
    Raises ValueError where that is so of the network itself. Whether another engine is faster, engines.py measures.
    """
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode do not count the writes to them
        net = channels_last(_copy(net).eval().requires_grad_(False))
        _split_activations(net)
        deployed = record(net)
        _drop_identities(deployed)
        name_shuffles(deployed)
        move_before_rearrangements(deployed)
        _fold_norms(deployed)
        _fuse_all(deployed)
        activate_in_place(deployed)
        _in_kernels(deployed)
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
    """Into transposed convolutions, which take in a BatchNorm and nothing else."""
    apart = _called_once(net.graph)
    for node in list(net.graph.nodes):
        if not is_norm(net, node):
            continue
        before = node.all_input_nodes[0]
        takes_in = kind(net, before) is nn.ConvTranspose2d and str(before.target) in apart
        if takes_in and len(before.users) == 1:
            fold_into(module_of(net, before), affine_of(module_of(net, node)))
            node.replace_all_uses_with(before)
            net.graph.erase_node(node)


def _fuse_all(net: fx.GraphModule) -> None:
    apart, memory, taken = _called_once(net.graph), Memory(net), set()
    for node in list(net.graph.nodes):
        if node in taken or str(node.target) not in apart or not can_start(net, node):
            continue
        chain = Chain(net, memory, node, apart)
        net.set_submodule(str(node.target), chain.module())
        with net.graph.inserting_after(chain.calls[-1]):
            call = net.graph.call_module(str(node.target), tuple(value for value, _ in chain.reads))
        memory.replace(chain.calls[-1], call)
        chain.calls[-1].replace_all_uses_with(call)
        taken.update(chain.calls)
        for part in reversed(chain.calls):
            net.graph.erase_node(part)


def _in_kernels(net: fx.GraphModule) -> None:
    """What no chain takes in and a kernel computes faster than PyTorch."""
    for name, module in list(net.named_modules()):
        if has_hooks(module):
            continue
        if type(module) is nn.MaxPool2d and not module.return_indices:
            net.set_submodule(name, MaxPool(module))
        elif type(module) is nn.Linear:
            net.set_submodule(name, PackedLinear(module))


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

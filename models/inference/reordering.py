"""BatchNorms and ReLUs behind a rearrangement of channels, moved before it, where convolutions can take them in."""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision.models.shufflenetv2 import channel_shuffle

from ..layers.lccl import LCCL
from ..layers.subdivided import Subdivided
from .calls import is_norm, is_relu, kind, module_of


def name_shuffles(net: fx.GraphModule) -> None:
    """torchvision shuffles two groups by views, which bring the channels of every position apart in memory."""
    fx.replace_pattern(net, lambda x: channel_shuffle(x, 2), lambda x: F.channel_shuffle(x, 2))


def move_before_rearrangements(net: fx.GraphModule) -> None:
    """norm(cat(a, b)) becomes cat(norm(a), norm(b)), each with its own channels of the norm, and relu(...) likewise.

    So with a channel shuffle, whose order the norm follows, and with a cut along other axes, if one of a, b is a
    convolution without another user. A cut that leaves all channels goes, so that what follows it may move.
    """
    for node in list(net.graph.nodes):
        if _keeps_all_channels(net, node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            net.graph.erase_node(node)
    for node in list(net.graph.nodes):
        if is_norm(net, node) or is_relu(net, node):
            moved = node.all_input_nodes[0]
            parts = _parts(net, moved)
            if len(moved.users) == 1 and any(_ends_convolution(net, part) for part in parts):
                _move(net, node, moved, parts)


def _move(net: fx.GraphModule, node: fx.Node, moved: fx.Node, parts: list[fx.Node]) -> None:
    """`node` acts on the `parts` of `moved`, no longer on `moved`, unless it is not known which channels are whose."""
    with net.graph.inserting_before(moved):
        if is_relu(net, node):
            new = [net.graph.call_function(torch.relu, (part,)) for part in parts]
        else:
            norm = module_of(net, node)
            widths = [_channels(net, part) for part in parts]
            if not all(widths) or sum(widths) != norm.num_features:  # some are joined or cut along another axis
                return
            new = []
            for part, places in zip(parts, _places(net, moved, norm.num_features).split(widths), strict=True):
                name = f"{node.target}_of_{part.name}"
                net.add_submodule(name, _own_norm(norm, places))
                new.append(net.graph.call_module(name, (part,)))
    for part, own in zip(parts, new, strict=True):
        moved.replace_input_with(part, own)
    node.replace_all_uses_with(moved)
    net.graph.erase_node(node)


def _parts(net: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The values that `node` joins, or the one that it shuffles, or cuts."""
    called, given = kind(net, node), node.all_input_nodes
    if called is torch.cat:
        return given
    is_cut = called is operator.getitem and _cut_axes(node)
    return given[:1] if is_cut or called in (nn.ChannelShuffle, F.channel_shuffle) else []


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else []


def _cut_axes(getitem: fx.Node) -> list[int]:
    """The axes that `getitem` cuts; none where it is given anything but slices."""
    keys = _listed(getitem.args[1])
    if not all(isinstance(key, slice) for key in keys):
        return []
    return [axis for axis, key in enumerate(keys) if key != slice(None)]


def _keeps_all_channels(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` cuts nothing off: x[:, :n] of a concatenation of n channels in all."""
    if kind(net, node) is not operator.getitem or _cut_axes(node) != [1]:
        return False
    cat = node.all_input_nodes[0]
    widths = [_channels(net, part) for part in _listed(cat.args[0])] if kind(net, cat) is torch.cat else [0]
    return all(widths) and _listed(node.args[1])[1] == slice(None, sum(widths))


def _ends_convolution(net: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` is a convolution, or the BatchNorm behind one, and has a single user."""
    if len(node.users) != 1:
        return False
    if is_norm(net, node):
        return _ends_convolution(net, node.all_input_nodes[0])
    return kind(net, node) in (nn.Conv2d, nn.ConvTranspose2d, LCCL, Subdivided)


def _channels(net: fx.GraphModule, node: fx.Node) -> int:
    """How many channels `node` has, or 0 where that is not known."""
    if is_relu(net, node):
        return _channels(net, node.all_input_nodes[0])
    if kind(net, node) not in (nn.Conv2d, nn.ConvTranspose2d, Subdivided):
        return 0
    module = module_of(net, node)
    return module.geometry.out_channels if isinstance(module, Subdivided) else module.out_channels


def _places(net: fx.GraphModule, moved: fx.Node, channels: int) -> Tensor:
    """For each channel of its parts, one behind the other, where `moved` puts it."""
    groups: Any = 1
    if kind(net, moved) is nn.ChannelShuffle:
        groups = module_of(net, moved).groups
    if kind(net, moved) is F.channel_shuffle:
        (groups,) = (*moved.args[1:], *moved.kwargs.values())
    return torch.arange(channels).view(-1, groups).t().flatten()


def _own_norm(norm: nn.Module, places: Tensor) -> nn.Module:
    """`norm` for the channels at `places` alone, in their order."""
    own: Any = copy.deepcopy(norm)
    for tensor in own.state_dict(keep_vars=True).values():
        if tensor.dim():  # one number of batches
            tensor.data = tensor.data[places]
    own.num_features = len(places)
    return own

"""Build a network: backbone, then its convolutions rebuilt, then one initialisation pass; counted before and after."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models.cost import Cost, count
from models.init import initialise
from models.rebuild import Layer, Scope, Swap, rebuild

Backbone = Callable[..., nn.Module]


@dataclass(frozen=True)
class Input:
    """What a network is built for: images of (channels, size, size) and num_classes classes."""

    num_classes: int
    size: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size


@dataclass(frozen=True)
class Built:
    """A network ready for training, what became of each convolution, and its cost beside its baseline's."""

    net: nn.Module
    swaps: list[Swap]
    cost: Cost
    baseline: Cost


def build(backbone: Backbone, layer: Layer, scope: Scope, data: Input) -> Built:
    """Make `backbone` for `data`, replace by `layer` the convolutions that `scope` selects, initialise."""
    net = backbone(num_classes=data.num_classes, input_size=data.size, in_channels=data.channels)
    baseline = count(net, data.shape)
    swaps = rebuild(net, layer, scope, (1, *data.shape))
    initialise(net)
    return Built(net, swaps, count(net, data.shape), baseline)


def paper_input(backbone: Backbone) -> Input:
    """The input of the backbone's own paper: the defaults of its signature."""
    defaults = {name: p.default for name, p in inspect.signature(backbone).parameters.items()}
    return Input(defaults["num_classes"], defaults["input_size"], defaults["in_channels"])

"""Build a network: backbone, then its convolutions rebuilt, then one initialisation pass; counted before and after."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .budget import Choice, meet_budget
from .cost import Cost, count
from .init import initialise
from .rebuild import Layer, Scope, Swap, made_by, rebuild, require_a_replacement, survey

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
    """A network ready for training, what became of each convolution, and its cost beside its baseline's.

    `trained` is the backbone as its library trained it, where it was asked for: `net` has random weights all the same,
    and whoever trains it starts it from that one (convert.py).
    """

    net: nn.Module
    swaps: list[Swap]
    cost: Cost
    baseline: Cost
    choice: Choice | None
    trained: nn.Module | None = None


def build(
    backbone: Backbone,
    layer: Layer,
    scope: Scope,
    input: Input,
    *,
    budget_macs: float | None = None,
    budget_ratio: float | None = None,
) -> Built:
    """Make `backbone` for `input`, replace by `layer` the convolutions that `scope` selects, initialise.

    With `budget_macs`, or `budget_ratio` (the baseline's MACs divided by it), the layer's knob is set so that
    the network comes closest to that many MACs an image, from below.
    """
    net = backbone(num_classes=input.num_classes, input_size=input.size, in_channels=input.channels)
    trained = copy.deepcopy(net) if _is_pretrained(backbone) else None
    baseline = count(net, input.shape)
    found = survey(net, scope, (1, *input.shape))
    choice, layers = None, {place.name: layer for place in found.places}
    budget = _budget(budget_macs, budget_ratio, baseline.macs)
    if budget:
        fixed = baseline.macs - sum(baseline.macs_of(name) for name in layers)
        choice = meet_budget(layer, found.places, fixed, budget)
        layers = choice.layers
    swaps = rebuild(net, found, layers)
    if made_by(layer) is not nn.Conv2d:  # the baseline may have nothing to replace
        require_a_replacement(swaps)
    initialise(net)
    return Built(net, swaps, count(net, input.shape), baseline, choice, trained)


def _is_pretrained(backbone: Backbone) -> bool:
    return getattr(backbone, "keywords", {}).get("pretrained", False)


def _budget(macs: float | None, ratio: float | None, baseline: int) -> float | None:
    if macs and ratio:
        raise ValueError(f"model.budget_macs={macs:g} and model.budget_ratio={ratio:g}: give one of them")
    for name, value in (("budget_macs", macs), ("budget_ratio", ratio)):
        if value is not None and value <= 0:
            raise ValueError(f"model.{name}={value:g}: must be positive; this network has {baseline:,} MACs")
    return baseline / ratio if ratio else macs


def paper_input(backbone: Backbone) -> Input:
    """The input of the backbone's own paper: the defaults of its signature."""
    defaults = {name: p.default for name, p in inspect.signature(backbone).parameters.items()}
    return Input(defaults["num_classes"], defaults["input_size"], defaults["in_channels"])

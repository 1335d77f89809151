"""Build a network: backbone, then its convolutions rebuilt, then one initialisation pass; counted before and after."""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from .budget import Choice, Ladder, ladder
from .cost import Cost, count
from .init import initialise
from .rebuild import Layer, Scope, Swap, made_by, rebuild, require_a_replacement, survey
from .time_budget import Timed, meet_milliseconds

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
    and whoever trains it starts it from that one (convert.py). `timed` is what a budget of milliseconds came to.
    """

    net: nn.Module
    swaps: list[Swap]
    cost: Cost
    baseline: Cost
    choice: Choice | None
    trained: nn.Module | None = None
    timed: Timed | None = None

    @property
    def measured(self) -> dict[str, int]:
        """The arguments of `build` that it measured itself: with them it makes the same network anywhere."""
        return {"budget_macs": self.timed.budget_macs} if self.timed else {}


def build(
    backbone: Backbone,
    layer: Layer,
    scope: Scope,
    input: Input,
    *,
    budget_macs: float | None = None,
    budget_ratio: float | None = None,
    budget_ms: float | None = None,
) -> Built:
    """Make `backbone` for `input`, replace by `layer` the convolutions that `scope` selects, initialise.

    With `budget_macs`, or `budget_ratio` (the baseline's MACs divided by it), the layer's knob is set so that
    the network comes closest to that many MACs an image, from below. `budget_ms`, the milliseconds of one image on this
    machine, is turned into a budget of MACs by measuring (time_budget.py); where a run has both, `budget_macs` is what
    it came to, and nothing is measured.
    """
    net = _net(backbone, input)
    trained = copy.deepcopy(net) if _is_pretrained(backbone) else None
    baseline = count(net, input.shape)
    found = survey(net, scope, (1, *input.shape))
    choice, timed, layers = None, None, {place.name: layer for place in found.places}
    budget = _budget(budget_macs, budget_ratio, budget_ms, baseline.macs)
    if budget or budget_ms:
        ways = ladder(layer, found.places, baseline.macs - sum(baseline.macs_of(name) for name in layers))
        if budget_ms and not budget:
            timed = _in_macs(budget_ms, ways, backbone, scope, input)
            budget = timed.budget_macs
        assert budget
        choice = ways.meet(budget)
        layers = choice.layers
    swaps = rebuild(net, found, layers)
    if made_by(layer) is not nn.Conv2d:  # the baseline may have nothing to replace
        require_a_replacement(swaps)
    initialise(net)
    return Built(net, swaps, count(net, input.shape), baseline, choice, trained, timed)


def _net(backbone: Backbone, input: Input) -> nn.Module:
    return backbone(num_classes=input.num_classes, input_size=input.size, in_channels=input.channels)


def _is_pretrained(backbone: Backbone) -> bool:
    return getattr(backbone, "keywords", {}).get("pretrained", False)


def _in_macs(budget_ms: float, ways: Ladder, backbone: Backbone, scope: Scope, input: Input) -> Timed:
    """What `budget_ms` comes to here; measured on the CPU, whatever device the network is built on."""

    def make(layers: Mapping[str, Layer]) -> nn.Module:
        net = _net(backbone, input)
        rebuild(net, survey(net, scope, (1, *input.shape)), layers)
        initialise(net)
        return net

    with torch.device("cpu"), torch.random.fork_rng([]):  # the weights do not matter, and those to come are the same
        return meet_milliseconds(budget_ms, ways, make, (1, *input.shape))


def _budget(macs: float | None, ratio: float | None, ms: float | None, baseline: int) -> float | None:
    """The budget in MACs, None where there is none or `ms` has yet to be turned into one."""
    given = {name: value for name, value in (("macs", macs), ("ratio", ratio), ("ms", ms)) if value is not None}
    for name, value in given.items():
        if value <= 0:
            raise ValueError(f"model.budget_{name}={value:g}: must be positive; this network has {baseline:,} MACs")
    if ratio and len(given) > 1:
        listed = " and ".join(f"model.budget_{name}={value:g}" for name, value in given.items())
        raise ValueError(f"{listed}: give one of them")
    return baseline / ratio if ratio else macs


def paper_input(backbone: Backbone) -> Input:
    """The input of the backbone's own paper: the defaults of its signature."""
    defaults = {name: p.default for name, p in inspect.signature(backbone).parameters.items()}
    return Input(defaults["num_classes"], defaults["input_size"], defaults["in_channels"])

"""Choose a layer's knob so that the rebuilt network comes closest to a budget of MACs, from below."""

import itertools
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from .cost import count
from .rebuild import Layer, made_by, replacement
from .scope import Place

Keys = tuple[str, ...]  # the names of nested keyword arguments, from the outermost


@dataclass(frozen=True)
class Choice:
    """What a budget chose: the knob's dotted name, its value for each convolution, and the layers made so."""

    budget: float
    knob: str
    values: dict[str, Any]
    layers: dict[str, Layer]

    def __str__(self) -> str:
        numbers = Counter(self.values.values())
        return f"budget of {self.budget:,.0f} MACs: {self.knob} = " + ", ".join(
            f"{value} in {number} of {len(self.values)} layers" for value, number in numbers.items()
        )


@dataclass(frozen=True)
class Ladder:
    """The networks that a layer's knob leads to, next to `fixed_macs` spent elsewhere.

    `rungs` are the knob's values, the one that costs least in all `places` first; `costs` their MACs at each place.
    """

    knob: str
    rungs: list[Any]
    places: Sequence[Place]
    costs: dict[Any, list[int]]
    fixed_macs: int
    layers: dict[Any, Layer]

    @property
    def totals(self) -> list[int]:
        """The MACs of the networks that have one value everywhere."""
        return [self.fixed_macs + sum(self.costs[value]) for value in self.rungs]

    @property
    def reachable(self) -> list[int]:
        """Every budget that leads to a network of its own: from one value everywhere to the next, place by place."""
        steps = [
            itertools.accumulate(map(operator.sub, self.costs[high], self.costs[low]), initial=total)
            for low, high, total in zip(self.rungs, self.rungs[1:], self.totals, strict=False)
        ]
        totals = self.totals
        return sorted({macs for way in steps for macs in way if totals[0] <= macs <= totals[-1]} | {*totals})

    def meet(self, budget: float) -> Choice:
        """The knob's values that come closest to `budget` from below.

        All places get the dearest value that the budget allows for all. Then each place, in order, gets the next dearer
        value if the budget still allows it; the first come first because early convolutions are narrow, so that there
        the cheaper value saves the least time. Raises ValueError where no value meets the budget, with the range that
        can be met.
        """
        totals = self.totals
        if not totals[0] <= budget <= totals[-1]:
            raise ValueError(
                f"a budget of {budget:,.0f} MACs cannot be met by {self.knob} from {self.rungs[0]} to "
                f"{self.rungs[-1]}: they reach {totals[0]:,} to {totals[-1]:,} MACs; choose one in that range, or null "
                "for the layer as it is"
            )
        rank = max(rank for rank, total in enumerate(totals) if total <= budget)
        low, high, total = self.rungs[rank], self.rungs[min(rank + 1, len(totals) - 1)], totals[rank]
        chosen = {}
        for place, dear, cheap in zip(self.places, self.costs[high], self.costs[low], strict=True):
            affordable = total + dear - cheap <= budget
            chosen[place.name] = high if affordable else low
            total += dear - cheap if affordable else 0
        return Choice(budget, self.knob, chosen, {name: self.layers[value] for name, value in chosen.items()})


def ladder(layer: Layer, places: Sequence[Place], fixed_macs: int) -> Ladder:
    """What the knob of `layer` leads to in `places`; ValueError where the layer has no knob."""
    keys, values = _knob(layer)
    layers = {value: _with(layer, keys, value) for value in values}
    costs = {value: _costs(layers[value], places) for value in values}
    rungs = sorted(values, key=lambda value: sum(costs[value]))
    return Ladder(".".join(keys), rungs, places, costs, fixed_macs, layers)


def _knob(layer: Layer) -> tuple[Keys, tuple]:
    found = _find_knob(layer)
    if not found:
        name = getattr(made_by(layer), "__name__", layer)
        raise ValueError(
            f"{name} has no knob that a budget could turn; set model.budget_macs, model.budget_ratio and "
            "model.budget_ms to null"
        )
    return found


def _find_knob(layer: Layer) -> tuple[Keys, tuple] | None:
    """The keyword arguments that lead to the innermost knob, and its values."""
    arguments = layer.keywords if isinstance(layer, partial) else {}
    for name, value in arguments.items():
        if isinstance(value, partial) and (inner := _find_knob(value)):
            return (name, *inner[0]), inner[1]
    own = getattr(made_by(layer), "budget_knob", None)
    return ((own[0],), own[1]) if own else None


def _with(layer: Layer, keys: Keys, value: Any) -> Layer:
    """`layer` with the argument that `keys` lead to set to `value`."""
    name, *rest = keys
    if rest:
        assert isinstance(layer, partial)
        value = _with(layer.keywords[name], tuple(rest), value)
    return partial(layer, **{name: value})


def _costs(layer: Layer, places: Sequence[Place]) -> list[int]:
    """MACs of what stands at each place with `layer`: the new layer, or the convolution where it stays."""
    known: dict[Any, int] = {}
    for place in places:
        key = place.geometry, place.input_shape
        if key not in known:
            with torch.device("meta"):
                num, *shape = place.input_shape  # more than one where the convolution runs on parts of the image
                known[key] = num * count(replacement(layer, place)[0], (shape[0], shape[1], shape[2])).macs
    return [known[place.geometry, place.input_shape] for place in places]

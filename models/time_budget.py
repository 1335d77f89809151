"""Turn a budget of milliseconds into one of MACs, by timing on this machine what the layer's knob leads to.

Times differ from run to run and from machine to machine, and a network is to be the same wherever it is built again: so
what is measured decides between the networks that budgets of MACs lead to (budget.py), and that budget is the result.
The time is that of one image, alone in its batch, through the deployed network in float32 on the CPU, with the threads
that torch uses: the shortest of several forward passes, which other programs disturb least.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from .budget import Choice, Ladder
from .rebuild import Layer, replacement
from .scope import Place, Shape

Make = Callable[[Mapping[str, Layer]], nn.Module]  # layers by the names of the convolutions they replace -> a network
ROUNDS, RUNS = 3, 5  # timed forward passes of each network: RUNS in a row, ROUNDS times


@dataclass(frozen=True)
class Timed:
    """What a budget of `budget_ms` an image came to: `budget_macs`, and its network's time, predicted and measured."""

    budget_ms: float
    budget_macs: int
    predicted_ms: float
    measured_ms: float
    threads: int

    def __str__(self) -> str:
        return (
            f"budget of {self.budget_ms:g} ms an image: predicted {self.predicted_ms:.3g} ms, measured "
            f"{self.measured_ms:.3g} ms (deployed on this CPU, one image at a time, float32, "
            f"{_threads(self.threads)}); the same network anywhere: model.budget_macs={self.budget_macs}"
        )


@dataclass(frozen=True)
class Candidate:
    """A network that a budget of `macs` leads to, and the time it is expected to take."""

    macs: int
    predicted_ms: float


def meet_milliseconds(budget_ms: float, ladder: Ladder, make: Make, input_shape: Shape) -> Timed:
    """The network with most MACs among those on `ladder` that take no longer than `budget_ms` here.

    `make` builds the network with the layers it is given. Raises ValueError where none is as fast, and where all are
    faster, with the times that can be met.
    """
    known = candidates(ladder, make, input_shape)
    affordable = [candidate for candidate in known if candidate.predicted_ms <= budget_ms]
    times, threads = [candidate.predicted_ms for candidate in known], torch.get_num_threads()
    if not affordable or budget_ms > max(times):
        nearest = f"{min(times) * 1.01:.3g}" if not affordable else f"{max(times) * 0.99:.3g}"
        raise ValueError(
            f"a budget of {budget_ms:g} ms an image cannot be met by {ladder.knob} from {ladder.rungs[0]} to "
            f"{ladder.rungs[-1]}: deployed here with {_threads(threads)} they take {min(times):.3g} to "
            f"{max(times):.3g} ms; nearest: model.budget_ms={nearest}, or null for the layer as it is"
        )
    best = max(affordable, key=lambda candidate: candidate.macs)
    (measured,) = milliseconds([make(ladder.meet(best.macs).layers)], input_shape)
    return Timed(budget_ms, best.macs, best.predicted_ms, measured, threads)


def candidates(ladder: Ladder, make: Make, input_shape: Shape) -> list[Candidate]:
    """Every network on `ladder` with its predicted time.

    Those with one value of the knob everywhere are timed as they are. What lies between two of them is told by the
    layers alone, timed once for each shape: the time rises by what the dearer layers take longer. What the layers alone
    do not explain of the whole difference, such as weights that leave the cache, is added in proportion to their time.
    """
    uniform = [make({place.name: ladder.layers[value] for place in ladder.places}) for value in ladder.rungs]
    whole = dict(zip(ladder.rungs, milliseconds(uniform, input_shape), strict=True))
    alone = _alone(ladder)
    return [Candidate(macs, _predicted(ladder.meet(macs), ladder, whole, alone)) for macs in ladder.reachable]


def _predicted(choice: Choice, ladder: Ladder, whole: dict[Any, float], alone: dict[Any, list[float]]) -> float:
    low, *dearer = sorted(set(choice.values.values()), key=ladder.rungs.index)
    if not dearer:
        return whole[low]
    high = dearer[0]
    rises = [dear - cheap for dear, cheap in zip(alone[high], alone[low], strict=True)]
    raised = [choice.values[place.name] == high for place in ladder.places]
    unexplained = whole[high] - whole[low] - sum(rises)
    share = sum(time for time, is_raised in zip(alone[high], raised, strict=True) if is_raised) / sum(alone[high])
    explained = sum(rise for rise, is_raised in zip(rises, raised, strict=True) if is_raised)
    return whole[low] + explained + share * unexplained


def _alone(ladder: Ladder) -> dict[Any, list[float]]:
    """For each value of the knob, the milliseconds of what stands at each place, with BatchNorm and ReLU behind it."""
    known: dict[Any, list[float]] = {}
    for place in ladder.places:
        if (place.geometry, place.input_shape) not in known:
            units = [_unit(ladder.layers[value], place) for value in ladder.rungs]
            known[place.geometry, place.input_shape] = milliseconds(units, place.input_shape)
    times = [known[place.geometry, place.input_shape] for place in ladder.places]
    return {value: [at_place[rank] for at_place in times] for rank, value in enumerate(ladder.rungs)}


def _unit(layer: Layer, place: Place) -> nn.Module:
    made, stays = replacement(layer, place)
    if stays:
        made = nn.Conv2d(*place.geometry.arguments())  # the one that is there may have no memory
    return nn.Sequential(made, nn.BatchNorm2d(place.geometry.out_channels), nn.ReLU())


def milliseconds(nets: Sequence[nn.Module], input_shape: Shape) -> list[float]:
    """The shortest forward pass of each of `nets`, deployed, for an input of (N, C, H, W).

    Each runs several times in a row, as it will in use, and they take turns, so that a slow while hits them all.
    """
    # Here, not at the top: who gives no budget of milliseconds need not wait for it to be imported.
    from .inference.deploy import deploy

    deployed = [deploy(net) for net in nets]
    images = torch.randn(input_shape).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        rounds = [[_shortest(net, images) for net in deployed] for _ in range(ROUNDS)]
    return [1e3 * min(times) for times in zip(*rounds, strict=True)]


def _shortest(net: nn.Module, images: Tensor) -> float:
    """Seconds of the shortest of `RUNS` passes, after one that finds the caches full of something else."""
    seconds = []
    for _ in range(1 + RUNS):
        start = perf_counter()
        net(images)
        seconds.append(perf_counter() - start)
    return min(seconds[1:])


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"

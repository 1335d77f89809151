"""Budgets of milliseconds, on machines whose times are known."""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import nn

from callbacks.complexity import rebuild_lines
from models import time_budget
from models.build import Built, Input, build
from models.cost import count
from models.layers.ghost import Ghost
from models.layers.sic import SIC
from models.rebuild import Layer
from models.scope import Shape, spatial
from models.time_budget import milliseconds

DATA = Input(10, 16, 3)
Time = Callable[[nn.Module, Shape], float]


def small(num_classes: int, input_size: int, in_channels: int) -> nn.Module:
    convs = [
        nn.Conv2d(m, n, 3, stride, 1) for m, n, stride in ((in_channels, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1))
    ]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Time], None]:
    """machine(time): what a network takes here is time(net, input shape) from now on."""

    def takes(time: Time) -> None:
        def milliseconds(nets: Sequence[nn.Module], shape: Shape) -> list[float]:
            assert all(parameter.is_cpu for net in nets for parameter in net.parameters())  # where there is something
            return [time(net, shape) for net in nets]

        monkeypatch.setattr(time_budget, "milliseconds", milliseconds)

    return takes


def macs(net: nn.Module, shape: Shape) -> float:
    """A machine that takes a millisecond for each 1,000,000 MACs."""
    return shape[0] * count(net, shape[1:]).macs / 1e6


def built(layer: Layer, **budget: float) -> Built:
    with torch.device("meta"):
        return build(small, layer, spatial, DATA, **budget)


@pytest.mark.parametrize(("layer", "budget"), [(SIC, 1.0), (Ghost, 0.8)])
def test_where_time_is_macs_it_is_the_budget_of_macs(machine, layer: Layer, budget: float) -> None:
    """What layers alone do not explain, here the stem and the classifier, is in the networks that are timed whole."""
    machine(macs)
    by_time, by_macs = built(layer, budget_ms=budget), built(layer, budget_macs=1e6 * budget)
    assert by_time.choice
    assert by_macs.choice
    assert by_time.timed
    assert len(set(by_time.choice.values.values())) == 2  # neither one value everywhere nor the other
    assert by_time.choice.values == by_macs.choice.values
    assert by_time.cost.macs == by_time.timed.budget_macs
    assert by_time.timed.predicted_ms == pytest.approx(by_time.cost.macs / 1e6)
    assert by_time.timed.measured_ms == pytest.approx(by_time.cost.macs / 1e6)


def test_what_costs_more_and_is_faster_is_taken(machine) -> None:
    """On a machine where two units in a row are slow, those who could have three do not get one."""
    slow = {2: 100.0}
    machine(lambda net, shape: macs(net, shape) + sum(slow.get(len(p), 0) for p in net.modules() if isinstance(p, SIC)))
    found = built(SIC, budget_ms=build(small, partial(SIC, depth=3), spatial, DATA).cost.macs / 1e6)
    assert found.choice
    assert [*found.choice.values.values()] == [3, 3, 3]


def test_what_only_the_whole_network_shows_is_shared_out_by_time(machine) -> None:
    """Weights that leave the cache: every network, not the layers alone, takes twice as long for its convolutions."""
    machine(lambda net, shape: macs(net, shape) * (2 if shape[1] == DATA.channels else 1))
    found = built(SIC, budget_ms=2.0)
    assert found.timed
    assert found.timed.predicted_ms == pytest.approx(found.timed.measured_ms, rel=0.01)


def test_an_unreachable_budget_names_the_nearest(machine) -> None:
    machine(macs)
    least, most = (build(small, partial(Ghost, ratio=ratio), spatial, DATA).cost.macs / 1e6 for ratio in (8, 2))
    times = f"they take {least:.3g} to {most:.3g} ms"
    with pytest.raises(ValueError, match=f"{times}; nearest: model.budget_ms={least * 1.01:.3g},"):
        built(Ghost, budget_ms=0.99 * least)
    with pytest.raises(ValueError, match=f"{times}; nearest: model.budget_ms={most * 0.99:.3g},"):
        built(Ghost, budget_ms=1.01 * most)


def test_what_it_came_to_is_stated_and_makes_the_same_network_without_measuring(machine) -> None:
    machine(macs)
    torch.manual_seed(1)
    first = build(small, SIC, spatial, DATA, budget_ms=1.0)
    line, choice, *_ = rebuild_lines(first)
    assert re.match(r"budget of 1 ms an image: predicted 0\.9\d* ms, measured 0\.9\d* ms \(", line)
    assert f"float32, 1 thread); the same network anywhere: model.budget_macs={first.cost.macs}" in line
    assert choice == str(first.choice)

    def never(net: nn.Module, shape: Shape) -> float:
        raise AssertionError("measured again")

    machine(never)
    torch.manual_seed(1)
    again = build(small, SIC, spatial, DATA, budget_ms=1.0, **first.measured)
    assert again.timed is None
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), again.net.parameters(), strict=True))


def test_a_budget_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.budget_ratio=2 and model.budget_ms=4: give one"):
        built(SIC, budget_ms=4.0, budget_ratio=2.0)
    with pytest.raises(ValueError, match=r"model.budget_ms=-1: must be positive"):
        built(SIC, budget_ms=-1.0)
    with pytest.raises(ValueError, match=r"Conv2d has no knob"):
        built(partial(nn.Conv2d), budget_ms=4.0)


def test_the_shortest_of_the_passes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which the passes take 9, 8, 7, ... seconds, and again from 9 in every round."""
    durations = itertools.cycle(range(9, 9 - 1 - time_budget.RUNS, -1))
    ticks = itertools.chain.from_iterable((0, duration) for duration in durations)
    monkeypatch.setattr(time_budget, "perf_counter", lambda: next(ticks))
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    assert milliseconds([net], (1, 3, 4, 4)) == [1e3 * (9 - time_budget.RUNS)]

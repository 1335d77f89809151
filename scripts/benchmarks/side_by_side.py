"""Measure things beside each other, in turn, so that what disturbs the machine disturbs all of them alike."""

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch.utils.benchmark import Timer
from tqdm import trange

Side = TypeVar("Side")


@dataclass(frozen=True)
class SideBySide:
    """What the first and the second side measured in each round."""

    rounds: Sequence[tuple[float, float]]

    @property
    def first(self) -> float:
        """The median of the first side."""
        return median(first for first, _ in self.rounds)

    @property
    def second(self) -> float:
        """The median of the second side."""
        return median(second for _, second in self.rounds)

    @property
    def ratios(self) -> list[float]:
        """First over second in each round."""
        return [first / second for first, second in self.rounds]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    @property
    def spread(self) -> float:
        """The distance between the quartiles of the ratios, as a share of their median; it takes two rounds."""
        return spread(self.ratios)

    def speeds(self, name: str, peer: str) -> dict[str, Any]:
        """The row `name` of a benchmark whose first side is ours and whose second is `peer`, in images a second."""
        return {
            "name": name,
            "ours_images_per_second": self.first,
            "peer": peer,
            "peer_images_per_second": self.second,
            "ratio": self.ratio,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
        }


def measure_in_turn(first: Callable[[], float], second: Callable[[], float], repeats: int, title: str) -> SideBySide:
    """Let each side measure itself, `repeats` times in turn, under a progress bar called `title`."""
    return SideBySide([(first(), second()) for _ in trange(repeats, desc=title, unit="round", disable=None)])


def time_in_turn(first: Callable[[], object], second: Callable[[], object], repeats: int) -> SideBySide:
    """Milliseconds of each side, `repeats` times in turn, after one round to warm up."""
    return SideBySide([(_milliseconds(first), _milliseconds(second)) for _ in range(1 + repeats)][1:])


def require_rounds(rounds: int) -> None:
    """ValueError where `rounds` are too few for a spread."""
    if rounds < 2:
        raise ValueError(f"benchmark.rounds={rounds}: a spread takes at least 2; 7 are usual")


def seconds_in_turn(
    sides: Mapping[Side, Callable[[], object]], rounds: int, seconds: float, title: str
) -> dict[Side, list[float]]:
    """Seconds a call of each side in each of the `rounds`, after one to warm up, under a progress bar called `title`.

    In a round each side is called for `seconds`, or once where that takes longer, on torch's own number of threads.
    """
    measured: dict[Side, list[float]] = {side: [] for side in sides}
    for _ in trange(1 + rounds, desc=title, unit="round", leave=False, disable=None):
        for side, run in sides.items():
            timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
            measured[side].append(timer.blocked_autorange(min_run_time=seconds).median)
    return {side: found[1:] for side, found in measured.items()}


def spread(values: Sequence[float]) -> float:
    """The distance between the quartiles of two or more values, as a share of their median."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def times_faster(plain: Sequence[float], own: Sequence[float]) -> float:
    """The median over the rounds of how many times less time `own` takes than `plain`."""
    return median(p / o for p, o in zip(plain, own, strict=True))


def keep_freed_memory() -> None:
    """Let glibc's allocator keep what is freed, as jemalloc and tcmalloc do, for all that this process times.

    By default it hands large blocks back to the system, and a layer's output then costs page faults that are no part
    of the layer. The same as MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_MAX_ in the environment.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 1)
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never
        mallopt(-4, 0)  # M_MMAP_MAX: M_MMAP_THRESHOLD can be 32 MB at most, and VGG has larger maps


def _milliseconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return 1e3 * (perf_counter() - start)

"""Time things beside each other, in turn, so that what disturbs the machine disturbs them alike."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter


@dataclass(frozen=True)
class Pair:
    """Median milliseconds of two sides, the median of first over second of each round, and its spread.

    `spread` is the distance between the quartiles of that ratio, as a share of the ratio.
    """

    first_ms: float
    second_ms: float
    ratio: float
    spread: float


def pair(first: Callable[[], object], second: Callable[[], object], repeats: int) -> Pair:
    """`repeats` rounds, at least 2, after one to warm up."""
    rounds = [(_milliseconds(first), _milliseconds(second)) for _ in range(1 + repeats)][1:]
    ratios = [a / b for a, b in rounds]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return Pair(*_medians(rounds), median(ratios), (high - low) / median(ratios))


def keep_freed_memory() -> None:
    """Let glibc's allocator keep what is freed, as jemalloc and tcmalloc do, for all that this process times.

    By default it hands large blocks back to the system, and a layer's output then costs page faults that are no part
    of the layer. The same as MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ in the environment.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 1)
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: its largest value


def _medians(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*rounds, strict=True)
    return median(first), median(second)


def _milliseconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return 1e3 * (perf_counter() - start)

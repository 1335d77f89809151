"""How much one network is better than another, by the seeds that both were trained with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """Top-1 of one network less that of another in percent points: mean and sample standard deviation of `n` pairs."""

    mean: float
    std: float | None
    n: int


def paired_difference(records: Sequence[Record], others: Sequence[Record]) -> Difference | None:
    """Of the top-1 of `records` from that of `others`, seed by seed; None where they share no seed.

    A seed that ran more than once counts once, with its mean.
    """
    ours, theirs = _by_seed(records), _by_seed(others)
    pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return Difference(fmean(pairs), stdev(pairs) if len(pairs) > 1 else None, len(pairs)) if pairs else None


def _by_seed(records: Sequence[Record]) -> dict[int, float]:
    top1: dict[int, list[float]] = defaultdict(list)
    for record in records:
        top1[record["config"]["seed"]].append(record["top1"])
    return {seed: fmean(values) for seed, values in top1.items()}

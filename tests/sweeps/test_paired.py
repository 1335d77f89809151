"""Paired differences beside those of scipy's paired test."""

import random
from typing import Any

import pytest
from scipy.stats import ttest_rel

from sweeps.paired import paired_difference


def run(seed: int, top1: float) -> dict[str, Any]:
    return {"config": {"seed": seed}, "top1": top1}


def test_pairs_are_those_of_the_same_seed() -> None:
    numbers = random.Random(0)
    ours, theirs = ([numbers.uniform(80, 90) for _ in range(5)] for _ in range(2))
    others = [run(seed, top1) for seed, top1 in enumerate(theirs)]
    found = paired_difference([run(seed, top1) for seed, top1 in reversed(list(enumerate(ours)))], [*others, run(7, 0)])
    expected = ttest_rel(ours, theirs)
    low, high = expected.confidence_interval()
    assert found is not None
    assert (found.n, found.mean) == (5, pytest.approx((low + high) / 2))
    assert found.std is not None
    assert found.mean / (found.std / 5**0.5) == pytest.approx(expected.statistic)


def test_a_seed_that_ran_twice_counts_once_and_one_pair_has_no_deviation() -> None:
    found = paired_difference([run(1, 90.0), run(1, 92.0)], [run(1, 90.0), run(2, 10.0)])
    assert found is not None
    assert (found.mean, found.std, found.n) == (1.0, None, 1)
    assert paired_difference([run(1, 90.0)], [run(2, 90.0)]) is None

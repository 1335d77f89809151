"""Runs folded into rows: statistics and front by hand."""

import random
from typing import Any

import pytest

from sweeps.table import front, gate_shares, recipe_key, rows, text_table


def run(model: str, seed: int, top1: float, macs: int, **more: Any) -> dict[str, Any]:
    """The result of a run, as far as the table reads it."""
    config = {"model": {"name": model}, "seed": seed, "optimizer": {"lr": more.pop("lr", 0.1)}, "data": {"n": 1}}
    usual = {"params": 10, "epochs": 3, "macs_effective": None, "git_sha": "a", "data": "digits", "gate_sparsity": None}
    return {"model": model, "top1": top1, "macs": macs, "config": config, **usual, **more}


def test_seeds_are_one_row_with_the_sample_standard_deviation() -> None:
    (row,) = rows([run("net", 1, 90.0, 100), run("net", 2, 92.0, 100), run("net", 3, 97.0, 100)])
    assert (row.n, row.top1) == (3, 93.0)
    assert row.top1_std is not None
    assert abs(row.top1_std - 13**0.5) < 1e-12  # (9 + 1 + 16) / 2
    (alone,) = rows([run("net", 1, 90.0, 100)])
    assert alone.top1_std is None
    assert "+/-" not in text_table([run("net", 1, 90.0, 100)]).splitlines()[1]


def test_other_recipes_are_other_rows_and_say_in_what_they_differ() -> None:
    found = rows([run("net", 1, 90.0, 100), run("net", 1, 80.0, 100, lr=0.2), run("other", 1, 70.0, 100)])
    assert sorted((row.name, row.n) for row in found) == [
        ("net optimizer.lr=0.1", 1),
        ("net optimizer.lr=0.2", 1),
        ("other", 1),
    ]


def test_what_most_recipes_of_a_network_have_is_not_said() -> None:
    several = [run("net", 1, 90.0, macs, lr=lr) for macs, lr in ((10, 0.1), (20, 0.2))]
    several += [run("net", 1, 90.0, 30, lr=0.1, epochs=3)]
    several[2]["config"]["label_smoothing"] = 0.1
    assert [row.name for row in rows(several)] == ["net", "net optimizer.lr=0.2", "net label_smoothing=0.1"]


def test_the_key_of_a_recipe_is_that_of_each_of_its_seeds_alone() -> None:
    one, again, other = run("net", 1, 90.0, 100), run("net", 2, 80.0, 100), run("net", 1, 90.0, 100, lr=0.2)
    again["config"]["run_dir"] = "elsewhere"
    assert recipe_key(one) == recipe_key(again) != recipe_key(other)


def test_the_front_holds_what_no_other_row_beats_on_the_same_data() -> None:
    records = [run("small", 1, 80.0, 10), run("worse", 1, 79.0, 20), run("gated", 1, 81.0, 40, macs_effective=15.0)]
    records += [run("large", 1, 85.0, 50), run("equal", 1, 85.0, 60), run("elsewhere", 1, 60.0, 70, data="cifar10")]
    assert [row.name.partition(" ")[0] for row in rows(records) if row.on_front] == [
        "elsewhere",
        "small",
        "gated",
        "large",
    ]


def test_the_front_is_what_comparing_each_with_each_gives() -> None:
    numbers = random.Random(0)
    points = [(numbers.randrange(30), numbers.randrange(30)) for _ in range(200)]
    beaten = [
        any(cost <= c and accuracy >= a and (cost, accuracy) != (c, a) for cost, accuracy in points) for c, a in points
    ]
    assert front(points) == [not is_beaten for is_beaten in beaten]


def test_the_shares_of_closed_gates_are_averaged_over_the_seeds() -> None:
    shares = {"a": 0.2, "b": 0.6}, {"a": 0.4, "b": 0.6, "c": 0.1}
    both = [run("net", seed, 90.0, 100, gate_sparsity=share) for seed, share in enumerate(shares)]
    assert gate_shares(both) == pytest.approx({"a": 0.3, "b": 0.6})
    assert rows(both)[0].gates_closed == pytest.approx((0.45, 0.3, 0.6))


def test_runs_of_different_commits_are_marked() -> None:
    text = text_table([run("net", 1, 90.0, 100), run("net", 2, 92.0, 100, git_sha="b")])
    assert "2+" in text
    assert "more than one commit" in text


def test_nothing_is_said_to_be_nothing() -> None:
    assert text_table([]) == "no finished runs"

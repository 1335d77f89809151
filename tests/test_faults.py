"""A slice of tests/fault_campaign.py: one trial of each fault that no other test knows."""

import os
import random
from pathlib import Path

import pytest

from tests.fault_campaign import DIGITS, EMA, Training, finish, try_once

pytestmark = pytest.mark.slow
OFTEN = ["trainer.max_epochs=2", "callbacks.checkpoint.every_minutes=0.005"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Training:
    straight = tmp_path_factory.mktemp("alone") / "run"
    return Training("alone", [*DIGITS, *EMA, *OFTEN], 1, straight, finish(DIGITS + EMA + OFTEN, 1, straight))


def test_one_of_two_processes_is_killed_at_a_random_moment(tmp_path: Path) -> None:
    straight = tmp_path / "straight" / "run"
    straight.parent.mkdir()
    options = [*DIGITS, *OFTEN]
    two = Training("two", options, 2, straight, finish(options, 2, straight))
    row = try_once("dead rank", two, tmp_path / "trial", random.Random(3))
    assert row["difference"] == []
    assert max(row["seconds_to_end"]) < 60


@pytest.mark.parametrize("fault", ["truncated", "NaN"])
def test_the_run_ends_as_if_nothing_had_happened(alone: Training, fault: str, tmp_path: Path) -> None:
    assert try_once(fault, alone, tmp_path / "trial", random.Random(1))["difference"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_is_full(alone: Training, tmp_path: Path) -> None:
    row = try_once("disk full", alone, tmp_path / "trial", random.Random(0))
    assert row["difference"] == []
    assert row["tracebacks"] == 0

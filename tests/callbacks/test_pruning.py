"""Which trials of a search are ended, and how."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.pruning import Pruning
from conf.stop import asked_by, noting


@pytest.fixture(autouse=True)
def _noted() -> Iterator[None]:
    with noting(["TERM"]):
        yield


def validated(pruning: Pruning, top1: float, step: int) -> None:
    """As after a validation at `step` of 100."""
    metrics = {"val/top1": torch.tensor(top1)}
    state: dict[str, Any] = {"global_step": step, "callback_metrics": metrics, "estimated_stepping_batches": 100}
    trainer: Any = SimpleNamespace(sanity_checking=False, is_global_zero=True, **state)
    pruning.on_validation_end(trainer, None)  # pyright: ignore[reportArgumentType]


def rivals(folder: Path, *curves: tuple[int, list[float]]) -> Pruning:
    """Trial 9, of 100 MACs, among others with these MACs and best validation top-1 so far."""
    for number, (macs, best) in enumerate(curves):
        (folder / f"trial{number}").mkdir()
        (folder / f"trial{number}" / "curve.json").write_text(json.dumps({"macs": macs, "best": best}))
    (folder / "trial9").mkdir()
    return Pruning(str(folder), 9, 100)


THREE = [(100, [50.0, 80.0]), (90, [60.0, 85.0]), (10, [20.0, 70.0])]


def test_a_trial_below_the_median_of_those_that_cost_no_more_ends(tmp_path: Path) -> None:
    pruning = rivals(tmp_path, *THREE)
    validated(pruning, 50.0, 50)
    assert not asked_by()
    validated(pruning, 79.9, 60)  # the median after two validations is 80
    assert asked_by() == signal.SIGTERM
    text = (tmp_path / "trial9" / "pruned.txt").read_text()
    assert text == "validation top-1 79.90 %, the median of the 3 that cost no more 80.00 %\n"


@pytest.mark.parametrize(
    ("curves", "top1", "step"),
    [
        (THREE, 80.0, 60),  # as good as the median
        ([(101, [99.0, 99.0])] * 3, 1.0, 60),  # all cost more
        (THREE[:2], 1.0, 60),  # too few to compare with
        ([(10, [99.0])] * 3, 1.0, 60),  # none has come as far
        (THREE, 1.0, 24),  # too early
    ],
)
def test_other_trials_go_on(tmp_path: Path, curves: list, top1: float, step: int) -> None:
    pruning = rivals(tmp_path, *curves)
    pruning.best = [0.0]
    validated(pruning, top1, step)
    assert not asked_by()
    assert json.loads((tmp_path / "trial9" / "curve.json").read_text()) == {"macs": 100, "best": [0.0, top1]}


def test_the_best_so_far_counts_also_after_a_restart(tmp_path: Path) -> None:
    pruning = rivals(tmp_path, *THREE)
    validated(pruning, 81.0, 10)
    again = Pruning(str(tmp_path), 9, 100)
    again.load_state_dict(pruning.state_dict())
    validated(again, 10.0, 60)
    assert not asked_by()

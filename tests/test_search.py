"""A search by Optuna: a killed process, two at once, one study."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests import processes
from tests.test_sweep import TINY, until

pytestmark = pytest.mark.slow
SPACE = ["hydra/sweeper=optuna", "hydra.sweeper.trials=3", "model/layer=conv,sic", "optimizer.lr=interval(0.05,0.2)"]


def search(root: Path, *more: str) -> processes.Command:
    """A process of the search, started."""
    return processes.Command("train.py", "-m", *TINY, "model=resnet20", *SPACE, *more, RUN_ROOT=str(root))


def test_a_killed_process_s_trial_goes_on_in_another_and_two_share_the_trials(tmp_path: Path) -> None:
    killed = search(tmp_path)
    until(lambda: any(tmp_path.glob("*/config.json")))  # the first trial trains
    assert killed.process.pid
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.end()
    until(
        lambda: "SIGTERM: saved" in next(tmp_path.glob("*/log.txt")).read_text() or any(tmp_path.glob("*/result.json"))
    )
    one, other = search(tmp_path), search(tmp_path)
    ends = one.end(), other.end()
    assert all(end.returncode in (0, 75) for end in ends), ends
    assert 0 in {end.returncode for end in ends}
    last = max(ends, key=lambda end: len(end.stdout))
    trials = re.findall(
        r"^(\d) +(conv|sic) +([\d.]+) +([\d.]+) +(480,384|2,986,624) +([\d.]+)", last.stdout, re.MULTILINE
    )
    assert sorted(trial[0] for trial in trials) == ["0", "1", "2"]
    assert re.search(r"\*$", last.stdout, re.MULTILINE)
    assert len(list(tmp_path.glob("search-*/trial*"))) == 3
    told = search(tmp_path).end()  # nothing is left to do
    assert told.returncode == 0
    assert "3 of 3 trials are over" in told.stderr
    assert told.stdout == last.stdout


def test_wrong_values_are_refused(tmp_path: Path) -> None:
    done = search(tmp_path, "hydra.sweeper.cost=watts").end()
    assert done.returncode == 1
    assert "hydra.sweeper.cost=watts: no such choice; there are: macs, ms" in done.stderr

"""Sweeps: each job once and in a process of its own, whatever is killed, and whoever else runs the same sweep."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests import processes

pytestmark = pytest.mark.slow
TINY = ["data=digits", "model.backbone.depth=8", "trainer.max_epochs=1", "trainer.accelerator=cpu"]


def sweep(root: Path, *overrides: str) -> processes.Command:
    """`train.py -m` with these overrides, started; its runs are in `root`."""
    return processes.Command("train.py", "-m", *TINY, *overrides, RUN_ROOT=str(root))


def starts(root: Path) -> dict[str, int]:
    """How often each run was started."""
    return {path.parent.name: path.read_text().count("$ python train.py") for path in root.glob("*/log.txt")}


def results(root: Path) -> dict[Path, float]:
    """When each result was written."""
    return {path: path.stat().st_mtime for path in root.glob("*/result.json")}


def until(condition, seconds: float = 120) -> None:
    """Wait for it; AssertionError where it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_sweep_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    grid = ["model=resnet20", "seed=1,2"]
    killed = sweep(tmp_path, *grid)
    until(lambda: len(starts(tmp_path)) == 2)  # the first job is finished, the second one has started
    assert killed.process.pid
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.end()
    before = results(tmp_path)
    assert len(before) == 1
    done = sweep(tmp_path, *grid).end()
    assert done.returncode == 0, done.stderr
    assert "2 jobs, 1 of them finished before" in done.stderr
    after = results(tmp_path)
    assert len(after) == 2
    assert before.items() <= after.items()  # what was finished is as it was
    assert sorted(starts(tmp_path).values()) == [1, 2]  # only the job that was killed was started again
    assert re.findall(r"^(resnet20\S*) +(\d) .* \+/- ", done.stdout, re.M) == [("resnet20_backbone.depth8", "2")]
    again = sweep(tmp_path, *grid).end()
    assert again.stdout == done.stdout
    assert results(tmp_path) == after


def test_two_sweeps_at_once_share_the_jobs(tmp_path: Path) -> None:
    grid = ["model=resnet20", "seed=1,2"]
    one, other = (sweep(tmp_path, *grid) for _ in range(2))
    ends = one.end(), other.end()
    assert len(results(tmp_path)) == 2
    assert [path.read_text().count("epoch 1/1  loss") for path in tmp_path.glob("*/log.txt")] == [1, 1]
    # Each of them either saw everything finished or says what the other one still trains.
    assert all(end.returncode == 0 or (end.returncode == 75 and "running: seed=" in end.stderr) for end in ends)
    assert 0 in {end.returncode for end in ends}


def test_a_failed_job_is_told_and_does_not_end_the_sweep(tmp_path: Path) -> None:
    done = sweep(tmp_path, "model=resnet20", "optimizer.lr=1e30,0.1").end()
    assert done.returncode == 1
    assert len(results(tmp_path)) == 1
    (told,) = re.findall(r"^failed: (.*)$", done.stderr, re.MULTILINE)
    assert re.match(r"optimizer.lr=1e\+30: the training loss is nan .*; lower optimizer.lr .* \(.*lr.*|.*\)", told)
    assert "Traceback" not in done.stderr


def test_a_sweep_that_is_asked_to_stop_saves_and_starts_nothing_more(tmp_path: Path) -> None:
    command = sweep(tmp_path, "model=resnet20", "seed=1,2", "trainer.max_epochs=1000")
    until(lambda: any(tmp_path.glob("*/last.ckpt")))
    assert command.process.pid
    os.kill(command.process.pid, signal.SIGTERM)
    done = command.end()
    assert done.returncode == 75, done.stderr
    assert "stopped: seed=1: the same command goes on" in done.stderr
    assert "not started: seed=2" in done.stderr
    (log,) = tmp_path.glob("*/log.txt")
    assert "SIGTERM: saved at step" in log.read_text()
    assert log.read_text().endswith("exit status 75\n")


def test_a_sweep_lists_its_jobs(tmp_path: Path) -> None:
    done = sweep(tmp_path, "model=resnet20,resnet20_sic", "dry=true").end()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert re.match(rf"model=resnet20 +not started +{tmp_path}/resnet20_\S+ +75,002 +2,986,624$", lines[1])
    assert not any(tmp_path.iterdir())
    alone = processes.run("train.py", *TINY, "model=resnet20", "dry=true", RUN_ROOT=str(tmp_path), status=0)
    assert "75,002" in alone.stdout


def test_a_sweep_is_not_started_as_several_processes(tmp_path: Path) -> None:
    done = processes.run("train.py", "-m", *TINY, "seed=1,2", status=1, WORLD_SIZE="2", RUN_ROOT=str(tmp_path))
    assert "error: a sweep (-m) was started as 2 processes; start it once, without torchrun or srun" in done.stderr


def test_a_study_is_several_grids_and_the_command_narrows_each_of_them(tmp_path: Path) -> None:
    study = ["experiment=study/fashion_mnist", "model/layer=ghost", "dry=true"]
    listed = processes.Command("train.py", "-m", *study, RUN_ROOT=str(tmp_path)).end()
    assert listed.returncode == 0, listed.stderr
    jobs = [line.split("  ")[0] for line in listed.stdout.splitlines()[1:]]
    assert jobs[:4] == ["seed=1", "seed=2", "seed=3", "seed=1 model.budget_ratio=5"]
    assert "seed=1 model=mobilenetv1" in jobs
    search = processes.Command("train.py", "-m", "experiment=study/fashion_mnist", "hydra/sweeper=optuna").end()
    assert search.returncode == 1
    assert "hydra.sweeper.params holds several grids, which no search takes; leave out hydra/sweeper" in search.stderr
    twice = sweep(tmp_path, "hydra.sweeper.params=[{seed: '1,2'},{seed: '2,3'}]", "dry=true").end()
    assert [line.split("  ")[0] for line in twice.stdout.splitlines()[1:]] == ["seed=1", "seed=2", "seed=3"]

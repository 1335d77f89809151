"""A run that faults came to beside one that nothing disturbed: started by train_faulty.py, compared bit by bit."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from tests import processes

DIGITS = ["data=digits", "data.batch_size=128"]  # 10 batches an epoch


def train(
    run_dir: Path, arguments: list[str], at: int | str = "never", ranks: int = 1, **environment: str
) -> list[processes.Done]:
    """What the processes of train.py come to, at their end or by a fault at a step, after fit or in the test."""
    options = ["trainer.accelerator=cpu", f"run_dir={run_dir}", *arguments]
    environment["FAULT_AT"] = str(at)
    if ranks == 1:
        return [processes.run("tests/train_faulty.py", *options, **environment)]
    several = [f"trainer.devices={ranks}", "trainer.strategy=ddp"]
    return processes.run_ranks(ranks, "tests/train_faulty.py", *options, *several, **environment)


def checkpoint(run_dir: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(run_dir / name, weights_only=True)


def result(run_dir: Path) -> dict[str, Any]:
    record = json.loads((run_dir / "result.json").read_text())
    return {key: record[key] for key in ("top1", "top5", "val_top1", "epochs", "gate_sparsity", "macs_effective")}


def rows(run_dir: Path) -> list[dict[str, str]]:
    """What the loggers were told, by step."""
    found = []
    for file in run_dir.glob("csv/*/metrics.csv"):
        with file.open() as lines:
            found += [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return sorted(found, key=lambda row: (int(row["step"]), sorted(row)))


def finish(run_dir: Path, arguments: list[str], ranks: int = 1, **environment: str) -> str:
    """What the first process says until its end."""
    done = train(run_dir, arguments, ranks=ranks, **environment)[0]
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout + done.stderr


def equal(one: Any, other: Any) -> bool:
    """Whether two nested structures hold the same bits."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def generators(state: dict[str, Any]) -> list[torch.Tensor]:
    return [devices["cpu"] for devices in state["callbacks"]["LastCheckpoint"]["generators"]]


def check_same(killed: Path, straight: Path) -> dict[str, Any]:
    """Weights, progress, random numbers, results and rows; the checkpoint of `straight`."""
    assert not differing(killed, straight)
    assert rows(killed) == rows(straight)
    return checkpoint(straight)


def differing(one: Path, other: Path) -> list[str]:
    """What two finished runs do not have in common, bit by bit: weights, averaged weights, optimizer, and so on."""
    ours, theirs = checkpoint(one), checkpoint(other)
    parts = ["state_dict", "trained_state_dict", "regressors", "optimizer_states", "global_step"]
    found = [part for part in parts if not equal(ours.get(part), theirs.get(part))]
    progress, expected = (state["loops"]["fit_loop"]["epoch_progress"] for state in (ours, theirs))
    found += ["progress"] * (progress != expected)
    found += ["generators"] * (not equal(generators(ours), generators(theirs)))
    return found + ["result"] * (result(one) != result(other))

"""The training curves of a run, from what its CSV logger wrote."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

METRICS = "metrics.csv"
SHOWN = {"val/top1": "validation top-1, %", "train/top1": "training top-1, %", "train/loss": "training loss"}
Curve = list[tuple[int, float]]


def mean_curves(directories: Sequence[Path]) -> dict[str, Curve]:
    """Of each metric of SHOWN that all runs in `directories` have: (epoch from 1, mean over the runs)."""
    runs = [_curves(directory) for directory in directories]
    found = {}
    for metric in SHOWN:
        epochs = sorted(set.intersection(*(set(run[metric]) for run in runs)))
        if epochs:
            found[metric] = [(epoch + 1, fmean(run[metric][epoch] for run in runs)) for epoch in epochs]
    return found


def _curves(directory: Path) -> dict[str, dict[int, float]]:
    """By metric and epoch; a resumed run has several files, and what it did again counts."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in [directory / METRICS, *sorted(directory.glob(f"csv/version_*/{METRICS}"), key=_version)]:
        if path.is_file():
            with path.open(newline="") as file:
                _add(found, csv.reader(file))
    return found


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def _add(found: dict[str, dict[int, float]], rows) -> None:
    heading = next(rows, [])
    if "epoch" not in heading:
        return
    epoch = heading.index("epoch")
    places = [(metric, heading.index(metric)) for metric in SHOWN if metric in heading]
    for row in rows:
        for metric, place in places:
            if place < len(row) and row[place]:
                found[metric][int(row[epoch])] = float(row[place])

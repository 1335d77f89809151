"""result.json on disk: write it, find the runs to compare with, show it beside its baseline."""

import json
import logging
from pathlib import Path
from typing import Any

from conf.identity import identifying
from models.columns import columns
from models.run_directory import CONFIG, RESULT, read, write_whole

log = logging.getLogger(__name__)
Record = dict[str, Any]

# A baseline has none of these: they say which layers replace its convolutions, where, and what their gates cost.
OF_LAYERS = ("model.layer.", "model.scope.", "model.budget_", "gate_penalty.")


def write(run_dir: Path, record: Record) -> None:
    """Write `run_dir`/result.json whole or not at all."""
    write_whole(run_dir / RESULT, json.dumps(record, indent=1) + "\n")


def neighbours(run_dir: Path, data: str) -> list[Record]:
    """The finished runs beside `run_dir` on the data set `data`; what is no result of a run is named in the log."""
    found = []
    for folder in sorted(path.parent for path in run_dir.parent.glob(f"*/{CONFIG}")):
        try:
            record = None if folder == run_dir else read(folder / RESULT)
        except ValueError as foreign:
            log.warning(f"left out: {foreign}")
            continue
        found += [record] if record and record["data"] == data else []
    return found


def trained_baseline(record: Record, runs: list[Record]) -> Record | None:
    """The run among `runs` that differs from `record` in nothing but the convolutions."""
    return next((run for run in runs if run["layer"] == "conv" and but_for_layers(run) == but_for_layers(record)), None)


def beside_baseline(record: Record, runs: list[Record]) -> str:
    """A table of parameters, MACs, times less and top-1: the network under its baseline, unless it is one itself."""
    is_baseline = record["layer"] == "conv"
    baseline = None if is_baseline else trained_baseline(record, runs)
    rows = [("", "parameters", "MACs", "times less", "test top-1 %")]
    if not is_baseline:
        rows.append(_row("baseline", record["baseline_params"], record["baseline_macs"], 1.0, baseline))
    ratio = record["baseline_macs"] / record["macs"]
    rows.append(_row(record["model"], record["params"], record["macs"], ratio, record))
    if record["macs_effective"] is not None:
        effective = round(record["macs_effective"])
        ratio = record["baseline_macs"] / effective
        rows.append(_row("  closed gates skipped", record["params"], effective, ratio, record))
    lines = columns(rows, left=1)
    if not is_baseline and baseline is None:
        lines.append(f"(baseline not trained: the same command with {_baseline_overrides(record)} fills it in)")
    return "\n".join(lines)


def _row(name: str, params: int, macs: int, ratio: float, run: Record | None) -> tuple[str, str, str, str, str]:
    return name, f"{params:,}", f"{macs:,}", f"{ratio:.2f}", f"{run['top1']:.2f}" if run else "-"


def but_for_layers(record: Record) -> Record:
    """What decides the numbers of a run, except its layer, the scope and budget of that, and the loss of its gates."""
    return {key: value for key, value in identifying(record["config"]).items() if not key.startswith(OF_LAYERS)}


def _baseline_overrides(record: Record) -> str:
    """What makes the command of `record` that of its baseline, which can have no budget and no loss of gates."""
    settings = identifying(record["config"]).items()
    budgets = [f"{key}=null" for key, _ in settings if key.startswith("model.budget_")]
    penalties = [f"{key}=0" for key, weight in settings if key.startswith("gate_penalty.") and weight]
    return " ".join(["model/layer=conv", *budgets, *penalties])

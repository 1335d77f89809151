"""Folders of runs for the tests of reports: real results, copied for several seeds with accuracies that are known."""

import copy
import json
from pathlib import Path
from typing import Any

from sweeps.table import recipe_key
from tests.conftest import ROOT

Record = dict[str, Any]
KEPT = ROOT / "results" / "digits" / "layers"
TOP1 = {  # by layer, of the seeds 1, 2, 3
    "conv": (92.0, 93.0, 91.0),
    "ghost": (91.5, 91.5, 91.0),
    "lccl": (91.9, 92.7, 91.3),
    "sic": (88.0, 89.0, 90.0),
}
NAMES = {"conv": "resnet20"}


def kept(layer: str) -> Record:
    return json.loads((KEPT / f"{NAMES.get(layer, f'resnet20_{layer}')}.json").read_text())


def of_seed(record: Record, seed: int, top1: float, **more: Any) -> Record:
    """The same run with another seed and what came of it."""
    config = copy.deepcopy(record["config"]) | {"seed": seed}
    command = f"python train.py model/layer={record['layer']} seed={seed}"
    return record | {"seed": seed, "top1": top1, "config": config, "command": command, "machine": "a CPU"} | more


def write(folder: Path, record: Record) -> Path:
    """A run's directory with `record` as its result, and three epochs of curves."""
    run = folder / f"{record['model']}-seed{record['seed']}"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps(record))
    rows = [
        f"{epoch},{10 * epoch},,{record['top1'] - 2 + epoch}\n{epoch},{10 * epoch},{2 - epoch / 2},"
        for epoch in range(3)
    ]
    (run / "metrics.csv").write_text("epoch,step,train/loss,val/top1\n" + "\n".join(rows) + "\n")
    return run


def study(folder: Path) -> None:
    """Four networks of three seeds each, with measured speeds of all but one."""
    speeds = []
    for layer, accuracies in TOP1.items():
        record = kept(layer)
        for seed, top1 in enumerate(accuracies, 1):
            write(folder, of_seed(record, seed, top1))
        if layer != "ghost":
            speeds.append({"recipe": recipe_key(record), "eager_ms": record["macs"] / 1e7, "deployed_ms": None})
    (folder / "speed.json").write_text(json.dumps({"machine": {"device": "another CPU"}, "rows": speeds}))

"""Our side of a published accuracy: the mean over the runs of its recipe that are kept in results/."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from conf.identity import NOT_PART, identifying
from scripts.published.recipes import data_name, overrides, recipe
from scripts.published.rows import Row

RESULTS = Path(__file__).parents[2] / "results"
# A recipe leaves these to whoever runs it, beside what does not identify a run at all.
FREE = {f"trainer.{key}" for key in ("precision", "accelerator", "deterministic")}
FREE |= {"seed", "channels_last", "compile"}


def measured(row: Row, runs: list[dict[str, Any]]) -> float | None:
    """The mean of the row's quantity over the runs of its recipe, whatever their seeds; None where there is none."""
    if row.experiment is None or not (found := _runs_of(row, runs)):
        return None
    return row.times * fmean(_quantity(run, row.quantity) for run in found)


def _runs_of(row: Row, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert row.experiment is not None
    data = data_name(f"experiment/{row.experiment}")
    on_same_data = [run for run in runs if run["data"] == data]
    if not on_same_data:  # the usual case: nothing need be composed
        return []
    wanted = recipe(*overrides(row))
    return [run for run in on_same_data if follows(run["config"], wanted)]


def follows(config: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a run of `config` followed the recipe of `wanted`, on whatever machine and with whatever seed.

    The record of an older version may lack keys that came later. So a null or a zero counts as a key that is not
    there, and of the keys of the data only those are compared that both have.
    """
    data, wanted_data = config["data"], wanted["data"]
    shared = (data.keys() & wanted_data.keys()) - {key for key in data if f"data.{key}" in NOT_PART}
    return _decided(config) == _decided(wanted) and all(data[key] == wanted_data[key] for key in shared)


def _decided(config: dict[str, Any]) -> dict[str, Any]:
    leaves = identifying(config)
    return {key: leaves[key] for key in leaves if leaves[key] and key not in FREE and not key.startswith("data.")}


def _quantity(run: dict[str, Any], quantity: str) -> float:
    match quantity:
        case "top1_error" | "top5_error":
            return 100 - run[quantity.removesuffix("_error")]
        case "reduction":
            return 100 * (1 - run["macs_effective"] / run["baseline_macs"])
    return run[quantity]


def finished_runs(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The result of every run that is kept in `folder`."""
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    return [run for run in found if "config" in run and "top1" in run]

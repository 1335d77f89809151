"""List what a command would train, and train nothing."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conf.run import Run
from models.columns import columns
from sweeps.outcome import outcome

if TYPE_CHECKING:
    from models.build import Built

HEADING = ("", "state", "directory", "parameters", "MACs")


def dry_table(runs: Mapping[str, Run]) -> str:
    """A line for each of `runs`, by label: parameters and MACs of its network, or why there is none; how far it is."""
    counts: dict[str, tuple[str, str]] = {}
    rows: list[tuple[str, ...]] = [HEADING]
    for label, run in runs.items():
        config = run.config
        network = json.dumps([config["model"], config["data"]], default=str)
        if network not in counts:
            counts[network] = _count(config)
        rows.append((label, str(outcome(run.directory)), str(run.directory), *counts[network]))
    return "\n".join(columns(rows, left=3))


def _count(config: dict[str, Any]) -> tuple[str, str]:
    try:
        cost = built(config).cost
    except ValueError as refusal:
        return "refused", str(refusal)
    return f"{cost.params:,}", f"{cost.macs:,}"


def built(config: dict[str, Any]) -> "Built":
    """The network of a run's plain configuration on the meta device; ValueError where there is no such network."""
    # Here, not at the top: a sweep itself needs no torch.
    import torch
    from hydra.utils import instantiate

    from models.build import Input, build

    data = config["data"]
    with torch.device("meta"):
        model = instantiate(config["model"], _convert_="all")
        return build(**model, input=Input(data["num_classes"], data["input_size"], data["channels"]))

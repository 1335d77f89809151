"""List what a command would train, and train nothing."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from models.columns import columns
from sweeps.outcome import outcome
from sweeps.plan import Job

if TYPE_CHECKING:
    from models.build import Built

HEADING = ("", "state", "directory", "parameters", "MACs")


def dry_table(jobs: Sequence[Job]) -> str:
    """A line for each of `jobs`: parameters and MACs of its network, or why there is none; how far the run is."""
    counts: dict[str, tuple[str, str]] = {}
    rows: list[tuple[str, ...]] = [HEADING]
    for job in jobs:
        config = job.run.config
        network = json.dumps([config["model"], config["data"]], default=str)
        if network not in counts:
            counts[network] = _count(config)
        found = outcome(job.directory)
        state = f"{found.state.value}{found.text and ', '}{found.text}"
        rows.append((job.label, state, str(job.directory), *counts[network]))
    return "\n".join(columns(rows, left=3))


def _count(config: dict[str, Any]) -> tuple[str, str]:
    try:
        cost = _built(config).cost
    except ValueError as refusal:
        return "refused", str(refusal)
    return f"{cost.params:,}", f"{cost.macs:,}"


def _built(config: dict[str, Any]) -> "Built":
    """The network on the meta device, which takes neither memory nor time to speak of."""
    # Here, not at the top: a sweep itself needs no torch.
    import torch
    from hydra.utils import instantiate

    from models.build import Input, build

    data = config["data"]
    with torch.device("meta"):
        model = instantiate(config["model"], _convert_="all")
        return build(**model, input=Input(data["num_classes"], data["input_size"], data["channels"]))

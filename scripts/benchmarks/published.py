"""benchmark=published: how fast one device trains each network whose accuracy a paper prints.

scripts/tables.py makes of it how long each of these recipes would take. A row is a recipe: its own network, input
size, batch and optimizer, in bf16-mixed, weights channels-last, on noise that lies on the device already. The batch is
halved until it fits the device's memory. `images_per_second` is the median over steps, `spread` the distance between
its quartiles as a share of it.
"""

import gc
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Measurement, Timer
from tqdm import tqdm

from callbacks.provenance import device_name, git_sha, versions
from models.build import Input, build
from models.load import INPUT, model_parts
from models.run_directory import write_whole
from scripts.benchmarks.training_step import training_step
from scripts.published import recipes
from scripts.published.rows import Row, read

log = logging.getLogger(__name__)
PRECISION = "bf16-mixed"
WARM_UP = 3  # steps


def rows(*, paper: str | None, seconds: float, out: str) -> Iterator[dict[str, Any]]:
    """A row for each recipe of `paper`, or of all, `seconds` of steps each; the file `out` has them as they come.

    What `out` has already is not measured again. Raises ValueError where that is of another device.
    """
    yield from measure([row for row in read(paper) if row.is_measured and row.experiment], seconds, Path(out))


def measure(wanted: Sequence[Row], seconds: float, out: Path) -> Iterator[dict[str, Any]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = _measured_before(out, device_name(device))
    known = {row["command"] for row in measured}
    missing = [row for row in in_order(wanted) if recipes.command(row) not in known]
    for row in tqdm(missing, "published", unit="network", disable=None):
        try:
            speed = _speed(recipes.recipe(*recipes.overrides(row)), device, seconds)
        except RuntimeError as error:  # one network that a device refuses is no reason to go without the others
            log.warning(f"{recipes.command(row)} was left out: {str(error).partition(chr(10))[0]}")
            continue
        measured.append(speed | {"experiment": row.experiment, "command": recipes.command(row)})
        origin = {"device": device_name(device), "precision": PRECISION, "git_sha": git_sha(), "versions": versions()}
        write_whole(out, json.dumps(origin | {"rows": measured}, indent=1) + "\n")
        yield measured[-1]


def in_order(wanted: Sequence[Row]) -> list[Row]:
    """One row for each recipe: first one of each experiment, and what most rows need before what few need."""
    number = Counter(map(recipes.command, wanted))
    by_need = sorted(
        {recipes.command(row): row for row in wanted}.values(), key=lambda row: -number[recipes.command(row)]
    )
    first: dict[str | None, Row] = {}
    for row in by_need:
        first.setdefault(row.experiment, row)
    return [*first.values(), *(row for row in by_need if row is not first[row.experiment])]


def _measured_before(out: Path, device: str) -> list[dict[str, Any]]:
    if not out.is_file():
        return []
    before = json.loads(out.read_text())
    if before["device"] != device:
        raise ValueError(f"{out} is of {before['device']}, and this is {device}; choose another benchmark.out")
    return before["rows"]


def _speed(config: dict[str, Any], device: torch.device, seconds: float) -> dict[str, Any]:
    parts, data = model_parts(config, "conf"), config["data"]
    with torch.device(device):
        built = build(**parts, input=Input(*(data[name] for name in INPUT)))
    batch_size = data["batch_size"]
    while (time := _step_time(built.net, config, batch_size, seconds)) is None:
        batch_size //= 2
    return {
        "images_per_second": batch_size / time.median,
        "spread": time.iqr / time.median,
        "batch_size": batch_size,
        "recipe_batch_size": data["batch_size"],
        "macs": built.cost.macs,
    }


def _step_time(net: torch.nn.Module, config: dict[str, Any], batch_size: int, seconds: float) -> Measurement | None:
    """None where the device has too little memory for `batch_size` images."""
    try:
        step = training_step(net, config, batch_size, PRECISION)
        for _ in range(WARM_UP):
            step()
        return Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads()).blocked_autorange(
            min_run_time=seconds
        )
    except torch.OutOfMemoryError:
        if batch_size == 1:
            raise
        return None
    finally:
        net.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()

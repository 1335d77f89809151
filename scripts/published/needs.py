"""What it takes to run the recipe of a published accuracy: the command, the data, and the hours on one GPU."""

import json
import math
from dataclasses import dataclass
from decimal import Context
from functools import cache
from typing import Any

from scripts.published.our_counts import network_cost
from scripts.published.recipes import command, data_name, overrides, recipe
from scripts.published.rows import FOLDER, Row

THROUGHPUT = FOLDER / "throughput.json"  # of scripts/benchmark.py benchmark=published
# What a data set is called, how large its archives are, and how many images it has to train on.
DATA = {
    "cifar10": ("CIFAR-10, 170 MB", 50_000),
    "cifar100": ("CIFAR-100, 170 MB", 50_000),
    "imagenet": ("ImageNet-1k, 155 GB", 1_281_167),
}


@dataclass(frozen=True)
class Needs:
    """What one run needs. `images` are those of an epoch, without the share that is held out for validation.

    `images_per_second` is the speed of training on `measured_on`; where `scaled_from` names another network of the
    experiment, its speed in proportion to the MACs. All three are None where nothing of the experiment is measured.
    """

    command: str
    data: str
    images: int
    epochs: int
    images_per_second: float | None = None
    measured_on: str | None = None
    scaled_from: str | None = None

    @property
    def gpu_hours(self) -> float | None:
        return self.images * self.epochs / self.images_per_second / 3600 if self.images_per_second else None

    @property
    def in_short(self) -> str:
        hours = "hours not measured" if self.gpu_hours is None else f"{self.hours} GPU hours"
        return f"{self.data.partition(',')[0]}, {self.epochs} epochs, {hours}"

    @property
    def hours(self) -> str:
        """To two digits, with a ~ where they are scaled; "" where they are not known."""
        if self.gpu_hours is None:
            return ""
        return f"{'~' if self.scaled_from else ''}{Context(prec=2).create_decimal_from_float(self.gpu_hours):,f}"


def needs(row: Row, throughput: dict[str, Any] | None = None) -> Needs | None:
    """What a run of the recipe of `row` needs, None where it has no recipe; `throughput` is that of THROUGHPUT."""
    if row.experiment is None:
        return None
    config = recipe(*overrides(row)[:1])  # a row's network changes nothing of data and epochs, and this is kept
    data, number = DATA[data_name(f"experiment/{row.experiment}")]
    held_out = round(config["data"]["val_fraction"] * number)
    common = command(row), data, number - held_out, config["trainer"]["max_epochs"]
    throughput = throughput or _throughput()
    of_experiment = [entry for entry in throughput["rows"] if entry["experiment"] == row.experiment]
    if not of_experiment:
        return Needs(*common)
    own = next((entry for entry in of_experiment if entry["command"] == common[0]), None)
    if own:
        return Needs(*common, own["images_per_second"], throughput["device"])
    macs = network_cost(row.network, **row.input).macs
    nearest = min(of_experiment, key=lambda entry: abs(math.log(entry["macs"] / macs)))
    speed = nearest["images_per_second"] * nearest["macs"] / macs
    return Needs(*common, speed, throughput["device"], _network(nearest))


def _network(entry: dict[str, Any]) -> str:
    return entry["command"].partition(f"experiment={entry['experiment']} ")[2]


@cache
def _throughput() -> dict[str, Any]:
    return json.loads(THROUGHPUT.read_text()) if THROUGHPUT.is_file() else {"device": None, "rows": []}

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

    `images_per_second` is the speed of training on `measured_on`; where `scaled_from` names another network, its speed
    in proportion to the MACs: one of the same experiment, or else (`rough`), and never faster than it, any other on
    images of about this size, whose convolutions may be of another kind. All three are None where nothing is measured.
    """

    command: str
    data: str
    images: int
    epochs: int
    images_per_second: float | None = None
    measured_on: str | None = None
    scaled_from: str | None = None
    rough: bool = False

    @property
    def gpu_hours(self) -> float | None:
        return self.images * self.epochs / self.images_per_second / 3600 if self.images_per_second else None

    @property
    def in_short(self) -> str:
        hours = "hours not measured" if self.gpu_hours is None else f"{self.hours} GPU hours"
        return f"{self.data.partition(',')[0]}, {self.epochs} epochs, {hours}"

    @property
    def hours(self) -> str:
        """To two digits, with a ~ where they are scaled, and to one where roughly; "" where they are not known."""
        if self.gpu_hours is None:
            return ""
        mark = "roughly " if self.rough else "~" if self.scaled_from else ""
        return f"{mark}{Context(prec=1 if self.rough else 2).create_decimal_from_float(self.gpu_hours):,f}"


def needs(row: Row, throughput: dict[str, Any] | None = None) -> Needs | None:
    """What a run of the recipe of `row` needs, None where it has no recipe; `throughput` is that of THROUGHPUT."""
    if row.experiment is None:
        return None
    config = recipe(*overrides(row)[:1])  # a row's network changes nothing of data and epochs, and this is kept
    data, number = DATA[data_name(f"experiment/{row.experiment}")]
    held_out = round(config["data"]["val_fraction"] * number)
    common = command(row), data, number - held_out, config["trainer"]["max_epochs"]
    throughput = throughput or _throughput()
    own = next((entry for entry in throughput["rows"] if entry["command"] == common[0]), None)
    if own:
        return Needs(*common, own["images_per_second"], throughput["device"])
    of_experiment = [entry for entry in throughput["rows"] if entry["experiment"] == row.experiment]
    of_size = [entry for entry in throughput["rows"] if _is_cifar(entry["experiment"]) == _is_cifar(row.experiment)]
    if not of_size:
        return Needs(*common)
    macs = network_cost(row.network, **row.input).macs
    nearest = min(of_experiment or of_size, key=lambda entry: abs(math.log(entry["macs"] / macs)))
    ratio = nearest["macs"] / macs
    if not of_experiment:
        ratio = min(ratio, 1.0)  # fewer MACs of another kind may well take as long
    speed = nearest["images_per_second"] * ratio
    return Needs(*common, speed, throughput["device"], _network(nearest), rough=not of_experiment)


def _is_cifar(experiment: str) -> bool:
    return data_name(f"experiment/{experiment}").startswith("cifar")


def _network(entry: dict[str, Any]) -> str:
    return entry["command"].partition(f"experiment={entry['experiment']} ")[2]


@cache
def _throughput() -> dict[str, Any]:
    return json.loads(THROUGHPUT.read_text()) if THROUGHPUT.is_file() else {"device": None, "rows": []}

"""benchmark=study: how fast the networks of a study's runs are, beside each other on one machine.

A row is a recipe, whatever its seeds. The network is built from the configuration that its result.json holds, or loaded
where the run's checkpoint lies beside it. `eager_ms` is the time for an image of the network as it is in training's
code, `deployed_ms` of what models/inference/deploy.py makes of it, both in single precision, channels-last, in batches
of the run's size; `train_images_per_second` that of steps on noise, in the run's precision. All of them are measured in
each round, one after the other; what is given are medians over the rounds, and each `_spread` is the distance between
the quartiles as a share of the median.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.provenance import device_name, git_sha, versions
from conf.targets import require_own_targets
from models.build import Input, build
from models.inference.deploy import deploy
from models.inference.gate_choice import choose_gates
from models.layers import gated_layers
from models.load import INPUT, load_run, model_parts
from models.memory_format import channels_last
from models.run_directory import CHECKPOINT, RESULT, read, write_whole
from scripts.benchmarks.gated_networks import calibrate, test_batches
from scripts.benchmarks.side_by_side import keep_freed_memory, require_rounds, seconds_in_turn, spread
from scripts.benchmarks.training_step import training_step
from sweeps.table import recipe_key

log = logging.getLogger(__name__)
SPEED = "speed.json"  # written into the folder of the results
NOT_TRAINED = f"gates close as they were trained: this needs {CHECKPOINT} beside {RESULT}"


@dataclass
class Network:
    """One recipe's network: what is timed of it, each a call for one batch, and the seconds of each round."""

    recipe: str
    name: str
    batch_size: int
    runs: dict[str, Callable[[], object]]
    deployed_error: str | None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        eager, train = self.seconds["eager"], self.seconds["train"]
        deployed = self.seconds.get("deployed")
        return {
            "recipe": self.recipe,
            "name": self.name,
            "batch_size": self.batch_size,
            "eager_ms": 1e3 * median(eager) / self.batch_size,
            "eager_spread": spread(eager),
            "deployed_ms": 1e3 * median(deployed) / self.batch_size if deployed else None,
            "deployed_spread": spread(deployed) if deployed else None,
            "train_images_per_second": self.batch_size / median(train),
            "train_spread": spread(train),
            "deployed_error": self.deployed_error,
        }


def rows(*, results: list[str], rounds: int, seconds: float, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each recipe in the folders `results` and their subfolders; each folder gets a file SPEED of its own.

    Each of the `rounds`, after one to warm up, takes `seconds` for each of the three times, or one batch where that
    takes longer. ValueError where a folder holds no results, and where one names what is not of this code;
    OSError where the test images that a trained gate is to see are not there.
    """
    require_rounds(rounds)
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for folder in map(Path, results):
        networks = [prepare(directory, device) for directory in recipes(folder)]
        sides = {(n, name): run for n, network in enumerate(networks) for name, run in network.runs.items()}
        for (n, name), found in seconds_in_turn(sides, rounds, seconds, str(folder)).items():
            networks[n].seconds[name] = found
        measured = [network.row() for network in networks]
        machine = {"device": device_name(device), "threads": threads}
        origin = {"machine": machine, "rounds": rounds, "git_sha": git_sha(), "versions": versions()}
        write_whole(folder / SPEED, json.dumps(origin | {"rows": measured}, indent=1) + "\n")
        yield from measured


def recipes(folder: Path) -> list[Path]:
    """The directory of one run of each recipe in `folder`, if there is one a run whose checkpoint is there."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob(RESULT), key=lambda path: not (path.parent / CHECKPOINT).is_file()):
        try:
            record = read(path)
        except ValueError as foreign:
            log.warning(f"left out: {foreign}")
            continue
        assert record is not None
        found.setdefault(recipe_key(record), path.parent)
    if not found:
        raise ValueError(f"benchmark.results: {folder} holds no {RESULT}; give folders of finished runs")
    return sorted(found.values())


def prepare(directory: Path, device: torch.device) -> Network:
    """The network of the run in `directory`, on `device`, ready to be timed."""
    record = read(directory / RESULT)
    assert record is not None
    config, source = record["config"], str(directory / RESULT)
    require_own_targets({name: config[name] for name in ("data", "optimizer")}, source)
    is_trained = (directory / CHECKPOINT).is_file()
    given = Input(*(config["data"][name] for name in INPUT))
    net = load_run(directory).net if is_trained else build(**model_parts(config, source), input=given).net
    images = torch.randn(config["data"]["batch_size"], *given.shape)
    if is_trained and gated_layers(net):
        images, _ = next(test_batches(config, source))
    if not is_trained:
        calibrate(net, images)
    images = images.to(device, memory_format=torch.channels_last)
    eager = channels_last(copy.deepcopy(net).eval()).to(device)
    deployed, error = (None, NOT_TRAINED) if gated_layers(net) and not is_trained else _deployed(net, images)
    runs = {"eager": _inference(eager, images), "train": training_step(net.to(device), config, len(images))}
    runs |= {"deployed": _inference(deployed, images)} if deployed else {}
    return Network(recipe_key(record), record["model"], len(images), runs, error)


def _deployed(net: nn.Module, images: Tensor) -> tuple[nn.Module | None, str | None]:
    """The deployed network, its gates skipping where that pays for `images`; or why there is none."""
    try:
        deployed = deploy(net).to(images.device)
    except ValueError as refused:
        return None, str(refused)
    choose_gates(deployed, images)
    return deployed, None


def _inference(net: nn.Module, images: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.inference_mode():
            return net(images)

    return run

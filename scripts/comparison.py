"""Our side of a published figure: counted on the meta device, or read from the results of runs; and how they compare."""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from conf import binding, schema
from conf.launch import FOLDER
from models.build import Input, build, paper_input
from models.cost import Cost, count
from scripts.published import NOT_RUN, RANKS, Row

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Comparison:
    """A published row, our figure (None where there is none) and what came of it: one of RANKS or NOT_RUN."""

    row: Row
    ours: float | None
    outcome: str
    message: str = ""  # why the network could not be built

    @property
    def is_worse(self) -> bool:
        """Worse than what is recorded; a run's scatter is no mistake of ours, so accuracies never are."""
        return not self.row.is_measured and RANKS.index(self.outcome) > RANKS.index(self.row.recorded)

    @property
    def status(self) -> str:
        """exact, within x %, differs (why), not built (why) or not run."""
        match self.outcome:
            case "within":
                return f"within {self.deviation:.2g} %"
            case "differs":
                return f"differs ({self.row.reason or f'{self.deviation:.2g} %, expected {self.row.recorded}'})"
            case "not built":
                return f"not built ({self.message})"
        return self.outcome

    @property
    def deviation(self) -> float:
        """Per cent of the published value."""
        assert self.ours is not None
        return 100 * abs(self.ours - self.row.figure.value) / abs(self.row.figure.value)


def compare_all(rows: list[Row], runs: list[dict[str, Any]]) -> list[Comparison]:
    """Every row compared, in their order; the rows of one network together, on every core."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.network].append(place)
    done: list[Comparison | None] = [None] * len(rows)
    with ProcessPoolExecutor(min(len(places), os.cpu_count() or 1), initializer=_start_worker) as pool:
        groups = pool.map(_compare_group, ([rows[place] for place in group] for group in places.values()), repeat(runs))
        for group, comparisons in zip(places.values(), groups, strict=True):
            for place, comparison in zip(group, comparisons, strict=True):
                done[place] = comparison
    return [comparison for comparison in done if comparison]


def _start_worker() -> None:
    torch.set_num_threads(1)
    schema.register()
    GlobalHydra.instance().clear()
    initialize_config_dir(str(FOLDER), version_base=None)


def _compare_group(rows: list[Row], runs: list[dict[str, Any]]) -> list[Comparison]:
    return [compare(row, runs) for row in rows]


def compare(row: Row, runs: list[dict[str, Any]]) -> Comparison:
    """Count or look up `row`; what cannot be built is an outcome, so that the other rows are still compared."""
    try:
        ours = measured(row, runs) if row.is_measured else counted(row)
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        return Comparison(row, None, "not built", str(error).splitlines()[0])
    if ours is None:
        return Comparison(row, None, NOT_RUN)
    return Comparison(row, ours, outcome(row, ours))


def outcome(row: Row, ours: float) -> str:
    """`exact` where ours rounds to the printed digits, `within` the row's tolerance, or `differs`."""
    difference = abs(ours - row.figure.value)
    if difference <= row.figure.half_unit * (1 + 1e-9):
        return "exact"
    return "within" if difference <= row.tolerance / 100 * abs(row.figure.value) else "differs"


def counted(row: Row) -> float:
    """The quantity of `row`, from a network of no data and no memory."""
    cost = layer_cost(row.network, row.conv) if row.conv else network_cost(row.network, **row.input)
    match row.quantity:
        case "params":
            ours = cost.params
        case "params_without_norm":
            ours = cost.params - sum(layer.params for layer in cost.layers if "Norm" in layer.kind)
        case "macs":
            ours = cost.macs
        case _:  # a ratio
            ours = network_cost(row.against, **row.input).macs / cost.macs
    return row.times * ours


@cache
def network_cost(network: tuple[str, ...], input_size: int | None = None, num_classes: int | None = None) -> Cost:
    """Cost of the network that these overrides make, for its own paper's input or the one given."""
    model = _model(network)
    given = {"size": input_size, "num_classes": num_classes}
    shape = replace(paper_input(model["backbone"]), **{key: value for key, value in given.items() if value})
    with torch.device("meta"):
        if model["layer"].func is nn.Conv2d:  # as it is: no need to rebuild it and count it again
            return count(_as_it_is(model["backbone"], shape), shape.shape)
        return build(**model, data=shape).cost


def _as_it_is(backbone: Callable[..., nn.Module], shape: Input) -> nn.Module:
    return backbone(num_classes=shape.num_classes, input_size=shape.size, in_channels=shape.channels)


@cache
def layer_cost(network: tuple[str, ...], conv: tuple[int, ...]) -> Cost:
    """Cost of the layer of these overrides in place of a convolution (in, out, kernel) with bias, at one position."""
    inputs, outputs, kernel = conv
    with torch.device("meta"):
        return count(_model(network)["layer"](inputs, outputs, kernel, 1, kernel // 2, 1, 1, True), (inputs, 1, 1))


@cache
def _model(network: tuple[str, ...]) -> dict[str, Any]:
    config = compose("complexity", list(network))
    binding.check(_plain(config))
    return instantiate(config.model, _convert_="all")


def measured(row: Row, runs: list[dict[str, Any]]) -> float | None:
    """The mean of the row's quantity over the runs of its recipe, whatever their seeds; None where there is none."""
    if row.experiment is None or not (found := _runs_of(row, runs)):
        return None
    return row.times * fmean(_quantity(run, row.quantity) for run in found)


def _runs_of(row: Row, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    on_same_data = [run for run in runs if run["data"] == _experiment(f"experiment={row.experiment}")[1]]
    if not on_same_data:  # the usual case: the network itself need not be composed
        return []
    size = [f"data.input_size={row.input['input_size']}"] if "input_size" in row.input else []
    wanted = recipe(*_experiment(f"experiment={row.experiment}", *row.network, *size))
    return [run for run in on_same_data if recipe(run["config"], run["data"]) == wanted]


@cache
def _experiment(*overrides: str) -> tuple[dict[str, Any], str]:
    """The configuration of an experiment and the name of its data set."""
    composed = compose("train", [*overrides, "run_dir=here"], return_hydra_config=True)
    data = composed.hydra.runtime.choices["data"]
    with open_dict(composed):
        del composed["hydra"]
    return _plain(composed), data


def recipe(config: dict[str, Any], data: str) -> dict[str, Any]:
    """What two runs of one published row have in common."""
    parts = {key: config[key] for key in ("model", "optimizer", "scheduler", "label_smoothing", "gate_penalty")}
    chosen = {key: config["data"][key] for key in ("input_size", "batch_size", "flip")}
    return parts | chosen | {"data": data, "epochs": config["trainer"]["max_epochs"]}


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


def _plain(config: Any) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportReturnType]

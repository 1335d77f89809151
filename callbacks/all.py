"""Which callbacks run: those that every run has, and between them those that its configuration chooses.

conf/callbacks/ names the ones to choose from: progress, data_wait and checkpoint by default, ema on demand.
A search by Optuna (sweeps/search.py) adds callbacks.pruning to the runs that it starts.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from callbacks.complexity import Complexity
from callbacks.gate_maps import GateMaps
from callbacks.gates import GateSparsity
from callbacks.one_error import OneError
from callbacks.processes import Processes
from callbacks.result import Result
from callbacks.start import StartFrom
from callbacks.teacher import TeacherAccuracy
from callbacks.throughput import Throughput
from models.build import Built
from models.load import load_run
from models.teacher import Teacher


def all_callbacks(
    built: Built,
    run_dir: Path,
    identity: dict[str, Any],
    config: dict[str, Any],
    chosen: Iterable[pl.Callback],
    teacher: Teacher | None = None,
) -> list[pl.Callback]:
    """The callbacks of one run, in the order in which Lightning calls them (but it calls checkpoints last).

    `identity` and `config` are what result.json says of the run; `chosen` are the configuration's callbacks.
    """
    gates, throughput = GateSparsity(built.cost), Throughput()
    processes = Processes(bool(config["trainer"].get("sync_batchnorm")))
    sources: dict[str, StartFrom | TeacherAccuracy] = {}
    if config["init"] and built.trained:
        raise ValueError(f"init={config['init']} and model.backbone.pretrained=true: a run starts from one network")
    if config["init"]:
        sources["start"] = StartFrom(built.net, config["init"], load_run(config["init"]).net)
    if built.trained:
        backbone = config["model"]["backbone"]
        sources["start"] = StartFrom(built.net, f"{backbone['library']}'s {backbone['name']}", built.trained)
    if teacher:
        sources["teacher"] = TeacherAccuracy(teacher)
    result = Result(run_dir, identity, config, built, gates, throughput, processes, sources)
    maps = GateMaps(run_dir, built.cost)  # after the gates are counted, and before the result that ends the run
    return [Complexity(built), *sources.values(), gates, maps, throughput, processes, *chosen, result, OneError()]

"""benchmark=steps: training steps of networks of cheap layers beside those of the plain networks.

A row is a preset in one precision, compiled or not. `ms` and `plain_ms` are those of a step, forward and backward pass
and update, on noise that lies in memory already, medians over the rounds, in each of which all of a precision take
turns. `faster` is how many times less time a step takes than the plain one of the same kind, `over_best` than the plain
one that is fastest in that precision: medians of the ratios of each round. `peak_mb` and `plain_peak_mb` are what a
process of its own comes to hold, PyTorch included, in a few steps that are not compiled.
"""

import json
import multiprocessing
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose
from omegaconf import OmegaConf
from torch import nn
from tqdm import tqdm

from callbacks.provenance import device_name, git_sha, versions
from conf.launch import near_matches
from models.build import Built, Input, build, paper_input
from models.load import INPUT, model_parts
from models.presets import preset, preset_names
from models.run_directory import write_whole
from scripts.benchmarks.side_by_side import keep_freed_memory, require_rounds, seconds_in_turn, spread, times_faster
from scripts.benchmarks.training_step import training_step

SMALL = 64  # pixels; of images up to this size a batch has 128, of others 16
WHO = ("network", "plain")
Row = dict[str, Any]


def rows(
    *,
    networks: list[str],
    precisions: list[str],
    compiled: list[bool],
    threads: int,
    rounds: int,
    seconds: float,
    out: str | None,
) -> Iterator[Row]:
    """The rows of each preset and precision as they are measured; the file `out` has them all.

    Raises ValueError where a network is no preset and where nothing is to be measured.
    """
    require_rounds(rounds)
    known = preset_names()
    for name in networks:
        if name not in known:
            raise ValueError(f"benchmark.networks=[{name}]: no preset{near_matches(name, known)}")
    if not compiled:
        raise ValueError("benchmark.compiled=[]: give false, true or both")
    keep_freed_memory()
    torch.set_num_threads(threads)
    measured: list[Row] = []
    for name, precision in tqdm([*product(networks, precisions)], "steps", unit="network", disable=None):
        found = compare(name, precision, compiled, rounds, seconds)
        measured += found
        if out:
            cpu = {"device": device_name(torch.device("cpu")), "instructions": torch.backends.cpu.get_cpu_capability()}
            origin = {"machine": cpu, "rounds": rounds, "git_sha": git_sha(), "versions": versions()}
            write_whole(Path(out), json.dumps(origin | {"rows": measured}, indent=1) + "\n")
        yield from found


def compare(name: str, precision: str, compiled: list[bool], rounds: int, seconds: float) -> list[Row]:
    """A row for each of `compiled`, all of them measured in turn."""
    torch.compiler.reset()  # else the ninth network of a class is left as it is
    config = configuration(name)
    batch_size = 128 if config["data"]["input_size"] <= SMALL else 16
    peaks = {who: _peak_megabytes(config, who, batch_size, precision) for who in WHO}
    built = {(who, is_compiled): _built(config, who) for is_compiled in compiled for who in WHO}
    steps = {kind: _step(each.net, config, batch_size, precision, compiled=kind[1]) for kind, each in built.items()}
    times = seconds_in_turn(steps, rounds, seconds, f"{name}, {precision}")
    best = min((found for (who, _), found in times.items() if who == "plain"), key=median)
    network, plain_network = (built[who, compiled[0]].cost.macs for who in WHO)
    return [
        {
            "network": name,
            "batch": batch_size,
            "threads": torch.get_num_threads(),
            "precision": precision,
            "compiled": is_compiled,
            "ms": 1e3 * median(own := times["network", is_compiled]),
            "spread": spread(own),
            "images_per_second": batch_size / median(own),
            "plain_ms": 1e3 * median(plain := times["plain", is_compiled]),
            "plain_spread": spread(plain),
            "mac_ratio": plain_network / network,
            "faster": times_faster(plain, own),
            "over_best": times_faster(best, own),
            "peak_mb": peaks["network"],
            "plain_peak_mb": peaks["plain"],
        }
        for is_compiled in compiled
    ]


def configuration(name: str) -> dict[str, Any]:
    """What train.py would train this preset with, on images of the size that its paper has."""
    given = paper_input(model_parts({"model": preset(name)}, name)["backbone"])
    noise = [
        f"data.num_classes={given.num_classes}",
        f"data.input_size={given.size}",
        f"data.channels={given.channels}",
    ]
    config = OmegaConf.to_container(compose("train", [f"model={name}", "data=fake", *noise]), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _built(config: dict[str, Any], who: str) -> Built:
    parts = model_parts(config, "conf")
    if who == "plain":
        parts = {"layer": nn.Conv2d, "backbone": parts["backbone"], "scope": parts["scope"]}
    torch.manual_seed(0)
    return build(**parts, input=Input(*(config["data"][name] for name in INPUT)))


def _step(
    net: nn.Module, config: dict[str, Any], batch_size: int, precision: str, *, compiled: bool
) -> Callable[[], None]:
    """What takes a step, one of which it has taken."""
    if compiled:
        net.compile()
    step = training_step(net, config, batch_size, precision)
    step()
    return step


def _peak_megabytes(config: dict[str, Any], who: str, batch_size: int, precision: str) -> float | None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_hold, (config, who, batch_size, precision, torch.get_num_threads()))


def _hold(config: dict[str, Any], who: str, batch_size: int, precision: str, threads: int) -> float | None:
    """The most megabytes that this process has held, after three steps; None where no Linux tells.

    getrusage would count what the process that started this one has held.
    """
    torch.set_num_threads(threads)
    step = _step(_built(config, who).net, config, batch_size, precision, compiled=False)
    for _ in range(2):
        step()
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 / 1e6 if found else None

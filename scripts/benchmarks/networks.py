"""benchmark=networks: networks of cheap layers beside plain ones, each in every engine.

A row is a network in one engine, for one batch and number of threads. All engines of a network and of the plain one
beside it are measured in each round, one after the other: `ms` and `plain_ms` are for a batch, medians over the rounds,
and each spread is the distance between the quartiles as a share of the median. `faster` is how many times less time the
network takes than the plain one in the same engine, `over_best` than the plain one in the engine that is fastest for
that (`best_plain`): medians of the ratios of each round. `realised` is `over_best` over `mac_ratio`, how many times
fewer MACs the network takes. `fastest` marks the engine to choose for the network.

`plain` says what stands beside the network: `conv` is the same network with nothing replaced, as with
model/layer=conv. A preset takes images of the size of its own paper. It has random weights, and BatchNorm's statistics
are those of the images, which are noise.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from callbacks.provenance import device_name, git_sha, versions
from conf.launch import near_matches
from models.build import Input, build, paper_input
from models.cost import count
from models.inference.engines import EngineName, Network, laid_out, start_all
from models.load import load_run, model_parts
from models.presets import preset, preset_names
from models.rebuild import made_by
from models.run_directory import write_whole
from scripts.benchmarks.gated_networks import calibrate
from scripts.benchmarks.side_by_side import keep_freed_memory, require_rounds, seconds_in_turn, spread, times_faster

# What the paper compares its own network with: one of the same accuracy.
BESIDE = {
    "factorized_381m": "vgg16",
    "factorized_470m": "googlenet",
    "factorized_845m": "resnet50",
    "factorized_1172m": "resnet101",
}
SMALL = 64  # pixels; of images up to this size a batch has more
Row = dict[str, Any]
DISTRIBUTIONS = ("onnxruntime", "openvino")  # engines that are packages of their own
Side = tuple[str, str | None]  # "network" or "plain", and the engine
Times = dict[Side, list[float]]  # seconds of a batch in each round


@dataclass(frozen=True)
class Pair:
    """A network and what stands beside it under the name `plain`, if anything does.

    `networks` and the `images` that they see, as many as the largest batch, are "network" and "plain".
    """

    name: str
    plain: str | None
    networks: dict[str, Network]
    images: dict[str, Tensor]
    mac_ratio: float | None

    @property
    def size(self) -> int:
        return self.images["network"].shape[-1]


def rows(
    *,
    networks: list[str],
    engines: list[EngineName],
    batch_sizes: list[int] | None,
    threads: list[int],
    rounds: int,
    seconds: float,
    out: str | None,
) -> Iterator[Row]:
    """The rows of each network, batch and number of threads as they are measured; the file `out` has them all.

    Raises ValueError where a network is neither a preset nor a run, or has gates.
    """
    for name in networks:
        _require_no_gates(name)
    pairs = (prepare(name, batch_sizes) for name in tqdm(networks, "networks", unit="network", disable=None))
    yield from measure(
        pairs, engines=engines, batch_sizes=batch_sizes, threads=threads, rounds=rounds, seconds=seconds, out=out
    )


def measure(
    pairs: Iterable[Pair],
    *,
    engines: list[EngineName],
    batch_sizes: list[int] | None,
    threads: list[int],
    rounds: int,
    seconds: float,
    out: str | None,
) -> Iterator[Row]:
    """The rows of each pair, batch and number of threads as they are measured; the file `out` has them all."""
    require_rounds(rounds)
    keep_freed_memory()
    measured: list[Row] = []
    for pair in pairs:
        for batch_size, number in product(batch_sizes or _usual(pair.size), threads):
            torch.set_num_threads(number)
            found = compare(pair, batch_size, engines, rounds, seconds)
            measured += found
            if out:
                _write(Path(out), measured, engines, {"rounds": rounds, "seconds": seconds})
            yield from found


def _require_no_gates(name: str) -> None:
    """ValueError where `name` is neither a preset nor a folder, and where it has gates."""
    known = preset_names()
    if name not in known and not Path(name).is_dir():
        raise ValueError(f"benchmark.networks=[{name}]: no preset or directory of a run{near_matches(name, known)}")
    if getattr(made_by(_described(name)[0]["layer"]), "is_gated", False):
        raise ValueError(f"benchmark.networks=[{name}]: how fast gates are depends on images; take benchmark=gates")


def _usual(size: int) -> list[int]:
    return [1, 128] if size <= SMALL else [1, 8]


def prepare(name: str, batch_sizes: list[int] | None) -> Pair:
    """The network `name` and what is plain beside it, each for the images of its own paper, or of its run."""
    parts, given, net = _described(name)
    plain = BESIDE.get(name, None if made_by(parts["layer"]) is nn.Conv2d else "conv")
    sides = {"network": (parts, given, net)}
    if plain == "conv":
        sides["plain"] = ({"layer": nn.Conv2d} | {part: parts[part] for part in ("backbone", "scope")}, given, None)
    elif plain:
        sides["plain"] = _described(plain)
    networks, images, macs = {}, {}, {}
    for side, (parts, given, net) in sides.items():
        torch.manual_seed(0)
        images[side] = torch.randn(max(batch_sizes or _usual(given.size)), *given.shape)
        networks[side] = Network(net or _untrained(parts, given, images[side]), given.shape)
        macs[side] = count(networks[side].net, given.shape).macs
    return Pair(name, plain, networks, images, macs["plain"] / macs["network"] if plain else None)


def _described(name: str) -> tuple[dict[str, Any], Input, nn.Module | None]:
    """The arguments of `build` for a preset or of a run, what it takes, and the network where it is trained."""
    if name in preset_names():
        parts = model_parts({"model": preset(name)}, name)
        return parts, paper_input(parts["backbone"]), None
    run = load_run(name)
    return model_parts(run.config, name), run.input, run.net


def _untrained(parts: dict[str, Any], given: Input, images: Tensor) -> nn.Module:
    net = build(**parts, input=given).net
    with torch.no_grad():
        calibrate(net, images)
    return net


def compare(pair: Pair, batch_size: int, engines: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    """A row for each engine, all of them measured in turn; one that cannot run the network is a row with the reason."""
    sides: dict[Side, Callable[[], Tensor]] = {}
    reasons: dict[Side, str] = {}
    for who, network in pair.networks.items():
        images = pair.images[who][:batch_size]
        runs, found = start_all(engines, network, images)
        sides |= {(who, engine): partial(run, laid_out(engine, images)) for engine, run in runs.items()}
        reasons |= {(who, engine): reason for engine, reason in found.items()}
    title = f"{pair.name}, batch {batch_size}, {torch.get_num_threads()} threads"
    times = seconds_in_turn(sides, rounds, seconds, title)
    return [_row(pair, batch_size, engine, times, reasons) for engine in engines]


def _row(pair: Pair, batch_size: int, engine: str, times: Times, reasons: dict[Side, str]) -> Row:
    own, plain = times.get(("network", engine)), times.get(("plain", engine))
    best_plain = _fastest("plain", times)
    over_best = _ratio(times.get(("plain", best_plain)), own)
    why = [f"{who}: {reason}" for (who, name), reason in reasons.items() if name == engine]
    return {
        "network": pair.name,
        "plain": pair.plain,
        "pixels": pair.size,
        "batch": batch_size,
        "threads": torch.get_num_threads(),
        "engine": engine,
        "ms": own and 1e3 * median(own),
        "spread": own and spread(own),
        "images_per_second": own and batch_size / median(own),
        "plain_ms": plain and 1e3 * median(plain),
        "plain_spread": plain and spread(plain),
        "mac_ratio": pair.mac_ratio,
        "faster": _ratio(plain, own),
        "best_plain": best_plain,
        "over_best": over_best,
        "realised": over_best and pair.mac_ratio and over_best / pair.mac_ratio,
        "fastest": engine == _fastest("network", times),
        "reason": "; ".join(why) or None,
    }


def _fastest(who: str, times: Times) -> str | None:
    """The engine that is fastest for the network or the plain one; None where there is none."""
    medians = {engine: median(found) for (each, engine), found in times.items() if each == who}
    return min(medians, key=medians.__getitem__, default=None)


def _ratio(plain: list[float] | None, own: list[float] | None) -> float | None:
    return times_faster(plain, own) if plain and own else None


def _write(out: Path, measured: list[Row], engines: Sequence[str], how: dict[str, Any]) -> None:
    cpu = {"device": device_name(torch.device("cpu")), "instructions": torch.backends.cpu.get_cpu_capability()}
    installed = versions() | {name: _version(name) for name in engines if name in DISTRIBUTIONS}
    origin = {"machine": cpu, **how, "git_sha": git_sha(), "versions": installed}
    write_whole(out, json.dumps(origin | {"rows": measured}, indent=1) + "\n")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

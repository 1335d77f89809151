"""Whole networks for benchmark=gates: gates set to a zero fraction, or as a run trained them."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from conf.launch import FOLDER, near_matches
from conf.targets import require_own_targets
from models.build import build, paper_input
from models.cost import count
from models.inference.deploy import deploy
from models.inference.engines import Network, fastest, laid_out
from models.inference.gate_choice import choose_gates
from models.kernels.fused_gated_conv import FusedGatedConv
from models.load import load_run, model_parts
from models.rebuild import made_by
from models.run_directory import RESULT, read
from models.watch import watched
from scripts.benchmarks.gated_layers import Row, compare, row, threshold
from scripts.benchmarks.side_by_side import time_in_turn

BATCH = {224: 8, 32: 128}  # images at once, by their size
TIMED_BATCHES = 8  # of a run's test set


def require_gates(name: str) -> None:
    """ValueError where `name` is no preset, or one without gates to close."""
    if Path(name).is_dir():
        raise ValueError(f"benchmark.networks=[{name}]: these are presets; finished runs go to benchmark.trained")
    if getattr(made_by(_preset(name)["layer"]), "is_gated", False):
        return
    gated = sorted(path.stem for path in (FOLDER / "model").glob("*_lccl.yaml"))
    raise ValueError(f"benchmark.networks=[{name}]: a network without gates{near_matches(f'{name}_lccl', gated)}")


def _preset(name: str) -> dict[str, Any]:
    config = OmegaConf.to_container(compose("train", [f"model={name}"]).model, resolve=True)
    return instantiate(config, _convert_="all")


def set_rows(name: str, zero_fraction: float, engines: Sequence[str], repeats: int) -> list[Row]:
    """The preset `name`, untrained, on noise, with gates that each close the share `zero_fraction` of positions."""
    parts = _preset(name)
    network_input = paper_input(parts["backbone"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH[network_input.size], *network_input.shape, generator=generator)
    images = images.to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    plain = build(parts["backbone"], nn.Conv2d, parts["scope"], network_input).net
    gated = build(**parts, input=network_input).net
    calibrate(plain, images)
    calibrate(gated, images)
    skipping = deploy(gated)
    close_gates(skipping, images, zero_fraction)
    return [_row(name, plain, skipping, [images], "random", engines, repeats)]


def trained_rows(folder: Path, engines: Sequence[str], repeats: int) -> list[Row]:
    """The network of a finished run on its own test images, with the accuracy it had and has when it skips."""
    record = read(folder / RESULT)
    if record is None:
        raise ValueError(f"{folder} has no {RESULT}; benchmark.trained takes the directories of finished runs")
    run = load_run(folder)
    batches = list(test_batches(run.config, str(folder / RESULT)))
    parts = model_parts(run.config, str(folder))
    plain = build(parts["backbone"], nn.Conv2d, parts["scope"], run.input).net
    images = [batch for batch, _ in batches]
    calibrate(plain, images[0])
    skipping = deploy(run.net)
    found = _row(folder.name, plain, skipping, images, "trained", engines, repeats)
    found |= {"top1": record["top1"], "top1_deployed": _top1(skipping, batches)}
    return [found, *_layer_rows(folder.name, skipping, images[0], repeats)]


def test_batches(config: dict[str, Any], source: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The test images of a run's plain `config`, read from `source`, and their labels; on the CPU, channels last.

    OSError where the data set is not there, ValueError where the configuration names what is not of this code.
    """
    require_own_targets(config["data"], source)
    data = instantiate(config["data"], _convert_="all")
    # The data module asks the trainer for its device and its processes.
    data.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    data.setup("test")
    for images, labels in data.test_dataloader():
        yield images.to(memory_format=torch.channels_last), labels


def _row(
    name: str,
    plain: nn.Module,
    skipping: nn.Module,
    batches: list[Tensor],
    gates: str,
    engines: Sequence[str],
    repeats: int,
) -> Row:
    """Times on the first few whole ones of `batches`, zero fractions over all of them.

    The dense side is `plain` in the fastest of `engines`.
    """
    if not _gated(skipping):
        raise ValueError(f"{name}: no gate of this network can skip; choose a run with model/layer=lccl, shared gates")
    shape = (batches[0].shape[1], batches[0].shape[2], batches[0].shape[3])
    choices = choose_gates(skipping, batches[0])
    macs = {choice.name: choice.macs for choice in choices}
    fractions = zero_fractions(skipping, batches)
    closed = sum(fractions[name] * macs[name] for name in macs)
    theoretical = count(plain, shape).macs / (count(skipping, shape).macs - closed)
    engine, dense = fastest(Network(plain, shape), batches[0], engines)
    few = [batch for batch in batches[:TIMED_BATCHES] if len(batch) == len(batches[0])]  # as which `dense` was made
    given = [laid_out(engine, batch) for batch in few]
    times = time_in_turn(lambda: list(map(dense, given)), lambda: list(map(skipping, few)), repeats)
    product = copy.deepcopy(skipping)
    for layer in _gated(product).values():
        layer.skips = False
    beside_itself = time_in_turn(lambda: product(batches[0]), lambda: skipping(batches[0]), repeats)
    own = {"layers_skipping": sum(choice.skips for choice in choices), "over_dense_product": beside_itself.ratio}
    own["dense_engine"] = engine
    fraction = closed / sum(macs.values())
    return row("network", name, list(batches[0].shape), fraction, gates, theoretical, times) | own


def _layer_rows(name: str, deployed: nn.Module, images: Tensor, repeats: int) -> list[Row]:
    """Each gated layer on what it sees of `images`."""
    rows: list[Row] = []

    def measure(layer_name: str, layer: FusedGatedConv, inputs: tuple[Tensor, ...]) -> None:
        rows.append(compare(f"{name} {layer_name}", layer, inputs, "trained", repeats))

    with watched(_gated(deployed), before=measure):
        deployed(images)
    return rows


def calibrate(net: nn.Module, images: Tensor) -> None:
    """Running statistics of every BatchNorm those of `images`, so that an untrained network's values stay finite."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()(images)
    net.eval()


def close_gates(deployed: nn.Module, images: Tensor, zero_fraction: float) -> None:
    """Move the gates of a deployed network so that the share `zero_fraction` of each is closed on `images`."""

    def move(name: str, layer: FusedGatedConv, inputs: tuple[Tensor, ...]) -> None:
        layer.gate_bias.sub_(threshold(layer.gate_sums(inputs[0]), zero_fraction))

    with watched(_gated(deployed), before=move):
        deployed(images)


def zero_fractions(deployed: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    """The zero fraction of each gated convolution over all images."""
    layers = _gated(deployed)
    zeros, elements = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)

    def see(name: str, layer: FusedGatedConv, inputs: tuple[Tensor, ...]) -> None:
        gate = layer.gate(inputs[0])
        zeros[name] += int((gate == 0).sum())
        elements[name] += gate.numel()

    with watched(layers, before=see):
        for images in batches:
            deployed(images)
    return {name: zeros[name] / elements[name] for name in layers}


def _gated(deployed: nn.Module) -> dict[str, FusedGatedConv]:
    return {name: module for name, module in deployed.named_modules() if isinstance(module, FusedGatedConv)}


def _top1(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    hits = sum(int((net(images).argmax(1) == labels).sum()) for images, labels in batches)
    return 100 * hits / sum(len(labels) for _, labels in batches)

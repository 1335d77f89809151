"""Whole networks for benchmark=gates: gates set to a zero fraction, or as a run trained them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from models.build import Input, build, paper_input
from models.cost import count, gated_layers
from models.deploy import affine, deploy
from models.gate_choice import choose
from models.kernels.fused_gated_conv import FusedGatedConv
from scripts import gates_speed
from scripts.side_by_side import pair

BATCH = {224: 8, 32: 128}  # images at once, by their size


def set_rows(name: str, zero_fractions: list[float], repeats: int) -> list[dict[str, Any]]:
    """The preset `name`, untrained, on noise, its gates moved so that each closes the same share of positions."""
    config = OmegaConf.to_container(compose("train", [f"model={name}"]).model, resolve=True)
    parts = instantiate(config, _convert_="all")
    size = paper_input(parts["backbone"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH[size.size], *size.shape, generator=generator).to(memory_format=torch.channels_last)
    rows = []
    for zeros in zero_fractions:
        torch.manual_seed(0)
        plain = build(parts["backbone"], nn.Conv2d, parts["scope"], size).net
        gated = build(**parts, data=size).net
        calibrate(plain, images)
        close_gates(gated, images, zeros)
        rows.append(_row(name, plain, gated, images, "random", repeats))
    return rows


def trained_rows(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """The network of a finished run on its own test images, which it must still classify as it did."""
    record = json.loads((folder / "result.json").read_text())
    parts = instantiate(record["config"], _convert_="all", trainer=None)
    data = parts["data"]
    size = Input(data.num_classes, data.input_size, data.channels)
    gated = build(**parts["model"], data=size).net
    state = torch.load(folder / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    gated.load_state_dict({name.removeprefix("net."): tensor for name, tensor in state.items()})
    plain = build(parts["model"]["backbone"], nn.Conv2d, parts["model"]["scope"], size).net
    data.setup("test")
    batches = [(images.to(memory_format=torch.channels_last), labels) for images, labels in data.test_dataloader()]
    calibrate(plain, batches[0][0])
    row = _row(folder.name, plain, gated, batches[0][0], "trained", repeats, batches)
    return [row | {"top1_skipping": _top1(deploy(gated), batches), "top1": record["top1"]}]


def _row(
    name: str,
    plain: nn.Module,
    gated: nn.Module,
    images: Tensor,
    gates: str,
    repeats: int,
    batches: list[tuple[Tensor, Tensor]] | None = None,
) -> dict[str, Any]:
    dense, skipping = deploy(plain), deploy(gated)
    choices = choose(skipping, images)
    zeros = _zero_fractions(skipping, [batch for batch, _ in batches] if batches else [images])
    cost = count(gated, tuple(images.shape[1:]))  # pyright: ignore[reportArgumentType]
    conv_macs = {name: cost.macs_of(f"{name}.conv") for name in gated_layers(gated)}
    closed = sum(zeros[name] * macs for name, macs in conv_macs.items())
    theoretical = count(plain, tuple(images.shape[1:])).macs / (cost.macs - closed)  # pyright: ignore[reportArgumentType]
    times = pair(lambda: dense(images), lambda: skipping(images), repeats)
    fraction = closed / sum(conv_macs.values())
    row = gates_speed.row(list(images.shape), fraction, gates, theoretical, times)
    return {"level": "network", "name": name} | row | {"layers_skipping": sum(choice.skips for choice in choices)}


def calibrate(net: nn.Module, images: Tensor) -> None:
    """Running statistics of every BatchNorm those of `images`, so that an untrained network's values stay finite."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()(images)
    net.eval()


def close_gates(net: nn.Module, images: Tensor, zeros: float) -> None:
    """Calibrate `net` with each gate moved so that a share `zeros` of it is closed on `images`."""

    def move(norm: nn.BatchNorm2d, args: object, output: Tensor) -> Tensor:
        values = output.flatten().sort().values
        number = round(zeros * len(values))
        threshold = values[number - 1] if number else values[0] - 0.1
        scale, _ = affine(norm)
        assert norm.running_mean is not None
        norm.running_mean += threshold / scale
        return output - threshold

    norms = [layer.get_submodule("gate.norm") for layer in gated_layers(net).values()]
    handles = [norm.register_forward_hook(move) for norm in norms]
    calibrate(net, images)
    for handle in handles:
        handle.remove()


def _zero_fractions(net: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    """Of each gated convolution, over all images."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, FusedGatedConv)}
    zeros, elements = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)

    def watch(name: str, layer: FusedGatedConv) -> Iterator:
        def hook(module: nn.Module, inputs: tuple) -> None:
            gate = layer.gate(inputs[0])
            zeros[name] += int((gate == 0).sum())
            elements[name] += gate.numel()

        return layer.register_forward_pre_hook(hook)

    handles = [watch(name, layer) for name, layer in layers.items()]
    for images in batches:
        net(images)
    for handle in handles:
        handle.remove()
    return {name: zeros[name] / elements[name] for name in layers}


def _top1(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    hits = sum(int((net(images).argmax(1) == labels).sum()) for images, labels in batches)
    return 100 * hits / sum(len(labels) for _, labels in batches)

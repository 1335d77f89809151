"""Gate sparsity and effective MACs against sums written out, over whole evaluation sets."""

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from callbacks.gates import GateCounter, GateSparsity
from models.backbones.cifar_resnet import cifar_resnet
from models.cost import count
from models.layers import gated_layers
from models.layers.lccl import LCCL
from models.scope import spatial
from tests.conftest import replace

FORMS = [
    {},
    {"gate_kernel": "1x1"},
    {"gate_kernel": "1x1", "gate_channels": "each"},
    {"unit": "product", "gate_offset": None},
    {
        "unit": "relu_product",
        "gate_kernel": "1x1",
        "gate_channels": "each",
        "gate_norm": False,
        "gate_offset": None,
    },
]


@pytest.mark.parametrize("knobs", FORMS, ids=str)
def test_counts_every_position_of_every_image(knobs) -> None:
    net = cifar_resnet(10, 16, 1, depth=8)
    replace(net, partial(LCCL, **knobs), spatial, (1, 1, 16, 16))
    net.eval()
    cost, layers = count(net, (1, 16, 16)), gated_layers(net)
    assert len(layers) == 6
    counter = GateCounter(net, cost)
    maps: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    for name, layer in layers.items():
        gate = layer.get_submodule("gate")
        gate.register_forward_hook(lambda module, args, output, name=name: maps[name].append(output))
    images = torch.randn(23, 1, 16, 16)
    for batch in images.split(10):
        net(batch)
    report = counter.report()

    saved = torch.zeros(23, dtype=torch.float64)
    for name, layer in layers.items():
        gates = torch.cat(maps[name])
        assert report.zero_fraction[name] == (gates == 0).double().mean().item()
        conv = next(module for module in layer.get_submodule("conv").modules() if isinstance(module, nn.Conv2d))
        outputs = conv.out_channels // gates.shape[1]  # that one element of the gate map closes
        saved += 9 * conv.in_channels * outputs * (gates == 0).flatten(1).sum(1)
    remaining = cost.macs - saved
    assert report.num_images == 23
    assert report.macs_mean == remaining.mean().item()
    assert report.macs_std == pytest.approx(remaining.std(correction=0).item(), rel=1e-6)
    assert report.macs_mean < cost.macs


@pytest.mark.parametrize(("offset", "zero_fraction"), [(-100.0, 1.0), (100.0, 0.0)])
def test_closed_gates_leave_the_gates_own_cost_and_open_ones_everything(offset: float, zero_fraction: float) -> None:
    net = nn.Sequential(LCCL(8, 8, 3, padding=1, gate_offset=offset)).eval()
    cost = count(net, (8, 6, 6))
    counter = GateCounter(net, cost)
    net(torch.randn(5, 8, 6, 6))
    report = counter.report()
    assert report.zero_fraction == {"0": zero_fraction}
    assert report.macs_mean == (cost.macs_of("0.gate") if zero_fraction else cost.macs)
    assert report.macs_std == 0


class Tangled(nn.Module):
    """The last by name runs first; one layer runs twice, at two sizes; one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a_shared = LCCL(4, 4, 3, padding=1, gate_channels="each", gate_kernel="1x1")
        self.b_unused = LCCL(4, 4, 3, padding=1)
        self.c_strided = LCCL(3, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a_shared(self.a_shared(self.c_strided(x))[:, :, ::3, ::2])


def test_layers_run_in_any_order_and_several_times() -> None:
    net = Tangled().eval()
    cost = count(net, (3, 12, 16))
    maps: dict[str, list[torch.Tensor]] = {"a_shared": [], "c_strided": []}
    for name in maps:
        gate = net.get_submodule(name).get_submodule("gate")
        gate.register_forward_hook(lambda module, args, output, name=name: maps[name].append(output.detach()))
    counter = GateCounter(net, cost)
    for images in torch.randn(7, 3, 12, 16).split(4):
        net(images)
    counter.close()
    net(torch.randn(2, 3, 12, 16))
    report = counter.report()

    (first, second, *last), (strided, other, _) = maps["a_shared"], maps["c_strided"]
    assert first.shape[2:] == (6, 8)
    assert second.shape[2:] == (2, 4)
    saved = [
        # Positions closed, times the MACs of one: 9 x 3 x 4 for all outputs, 9 x 4 for one output.
        9 * 3 * 4 * (outer == 0).flatten(1).sum(1) + 9 * 4 * sum((map_ == 0).flatten(1).sum(1) for map_ in inner)
        for outer, inner in ((strided, (first, second)), (other, last[:2]))
    ]
    remaining = (cost.macs - torch.cat(saved)).double()
    assert (torch.cat(saved) > 0).sum() > 0
    assert (report.num_images, report.macs_mean) == (7, remaining.mean().item())
    assert report.macs_std == pytest.approx(remaining.std(correction=0).item())
    closed, elements = (
        sum(int((map_ == 0).sum()) for map_ in maps["a_shared"][:4]),
        sum(map_.numel() for map_ in maps["a_shared"][:4]),
    )
    assert report.zero_fraction == {
        "a_shared": closed / elements,
        "c_strided": (torch.cat([strided, other]) == 0).double().mean().item(),
    }


def test_a_compiled_network_is_counted_and_its_dead_gates_are_named(caplog) -> None:
    """The network was compiled and evaluated before the callback put its hooks in."""
    channels, offsets = (3, 4, 4), (100.0, 0.0, -1e6)
    layers = [LCCL(m, 4, 3, padding=1, gate_offset=offset) for m, offset in zip(channels, offsets, strict=True)]
    net = nn.Sequential(*layers).eval()
    callback, images = GateSparsity(count(net, (3, 6, 6))), torch.randn(5, 3, 6, 6)
    net.compile(backend="eager")
    trainer: Any = SimpleNamespace(loggers=[], is_global_zero=True, global_step=0)
    module: Any = SimpleNamespace(net=net)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        net(images)
        callback.on_test_epoch_start(trainer, module)
        net(images)
        callback.on_test_epoch_end(trainer, module)
    assert callback.report is not None
    assert callback.report.num_images == 5
    assert caplog.messages == [
        "dead gates over the whole test set: never open in 2 (the layer returns zeros); "
        "never closed in 0 (nothing is skipped)"
    ]


def test_what_gates_did_in_each_epoch_outlives_a_restart() -> None:
    net = nn.Sequential(LCCL(3, 4, 3, padding=1)).eval()
    cost, module = count(net, (3, 6, 6)), SimpleNamespace(net=net)
    first, second = GateSparsity(cost), GateSparsity(cost)
    for epoch, callback in enumerate((first, second)):
        trainer: Any = SimpleNamespace(
            loggers=[], is_global_zero=True, global_step=0, current_epoch=epoch, sanity_checking=False
        )
        callback.on_validation_epoch_start(trainer, module)  # type: ignore[arg-type]
        net(torch.randn(2, 3, 6, 6))
        callback.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
        if callback is first:
            second.load_state_dict(first.state_dict())
    assert first.report is not None
    assert second.report is not None
    assert second.history == {1: first.report.zero_fraction, 2: second.report.zero_fraction}

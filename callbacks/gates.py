"""Measure how often gates close, and what that saves, over a whole evaluation set."""

import logging
import math
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.figures import gate_figure, show
from models.cost import Cost, gated_layers
from models.epochwise import Epochwise
from models.processes import sum_over_processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateReport:
    """Zero fraction of each layer's gate map and MACs an image that remain where closed positions are skipped.

    `macs_mean` and `macs_std` (over images) include everything the network computes, the gates too.
    """

    zero_fraction: dict[str, float]
    macs_mean: float
    macs_std: float
    num_images: int


class GateSparsity(Epochwise, pl.Callback):
    """Counts the zeros under BN + ReLU in every gate, each image once, over all processes.

    Does nothing in a network without gates. `report` holds the last evaluation.
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.report: GateReport | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "test")
        if self.report:
            if trainer.is_global_zero:
                warn_of_dead(self.report.zero_fraction)
            show(trainer, "gate_sparsity_by_layer", gate_figure(self.report.zero_fraction))

    def _start(self, pl_module: pl.LightningModule) -> None:
        net = pl_module.net
        assert isinstance(net, nn.Module)
        layers = gated_layers(net)
        if layers:
            torch.compiler.set_stance("force_eager")  # a compiled network overlooks hooks that come and go
        self.counter = GateCounter({name: self.cost.macs_of(f"{name}.conv") for name in layers}, self.cost.macs)
        self.handles = [
            layer.get_submodule("gate").register_forward_hook(self.counter.hook(name)) for name, layer in layers.items()
        ]

    def _finish(self, trainer: pl.Trainer, part: str) -> None:
        for handle in self.handles:
            handle.remove()
        if not self.handles:
            return
        torch.compiler.set_stance("default")
        self.report = self.counter.report()
        values = {f"gates_{part}/{name}": zero for name, zero in self.report.zero_fraction.items()}
        values |= {f"{part}/macs_effective": self.report.macs_mean}
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step)


def warn_of_dead(zero_fraction: dict[str, float]) -> None:
    """One line of the log naming the layers whose gates were closed, or open, at each position of every image."""
    closed = [name for name, zero in zero_fraction.items() if zero == 1]
    opened = [name for name, zero in zero_fraction.items() if zero == 0]
    parts = [f"never open in {', '.join(closed)} (the layer returns zeros)"] if closed else []
    parts += [f"never closed in {', '.join(opened)} (nothing is skipped)"] if opened else []
    if parts:
        log.warning(f"dead gates over the whole test set: {'; '.join(parts)}")


class GateCounter:
    """Adds up gate maps (N, 1 or T, H, W) of the named layers, given the MACs of each layer's convolution."""

    def __init__(self, conv_macs: dict[str, int], total_macs: int) -> None:
        self.conv_macs, self.total_macs = conv_macs, total_macs
        self.zeros: dict[str, Tensor] = {}
        self.elements = dict.fromkeys(conv_macs, 0)
        self.saved: list[Tensor] = []  # one tensor a batch: MACs saved in each image
        self.first = next(iter(conv_macs), "")

    def hook(self, name: str):
        def add(module: nn.Module, args: object, gate_map: Tensor) -> None:
            zeros = (gate_map == 0).sum((1, 2, 3))  # N
            elements = gate_map[0].numel()
            self.zeros[name] = self.zeros[name] + zeros.sum() if name in self.zeros else zeros.sum()
            self.elements[name] += gate_map.numel()
            # One gate element stands for conv_macs / elements MACs, a whole number.
            saved = zeros * (self.conv_macs[name] // elements)
            if name == self.first:
                self.saved.append(saved)
            else:
                self.saved[-1] = self.saved[-1] + saved

        return add

    def report(self) -> GateReport:
        """Over all processes: sums of whole numbers, so that the number of processes changes nothing."""
        saved = torch.cat(self.saved)
        remaining = (self.total_macs - saved).double()
        layers = list(self.conv_macs)
        counts = torch.stack([*(self.zeros[name] for name in layers), torch.full_like(saved.sum(), len(saved))])
        elements = torch.tensor([self.elements[name] for name in layers], device=counts.device)
        moments = torch.stack([remaining.sum(), remaining.square().sum()])
        for sums in (counts, elements, moments):
            sum_over_processes(sums)
        *zeros, num = counts.tolist()
        total, squares = moments.tolist()
        mean = total / num
        std = math.sqrt(max(0.0, squares / num - mean**2))
        fractions = {name: zero / n for name, zero, n in zip(layers, zeros, elements.tolist(), strict=True)}
        return GateReport(fractions, mean, std, num)

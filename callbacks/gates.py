"""Measure how often gates close, and what that saves, over a whole evaluation set."""

import logging
import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.gate_figures import closed_by_epoch, closed_by_layer
from callbacks.trackers import show
from models.cost import Cost
from models.layers import gated_layers
from models.training.epochwise import Epochwise
from models.training.processes import sum_over_processes
from models.watch import watched

log = logging.getLogger(__name__)
BETWEEN = 60.0  # seconds between two pictures while training: one takes as long as a few steps


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

    Does nothing in a network without gates. `report` holds the last evaluation. TensorBoard is shown pictures, of
    validations so far at most once a minute.
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.report: GateReport | None = None
        self.history: dict[int, dict[str, float]] = {}  # zero fractions on validation images, by epochs trained
        self.drawn_at = -math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "val")
        if self.report and not trainer.sanity_checking:
            self.history[trainer.current_epoch + 1] = self.report.zero_fraction
            if monotonic() - self.drawn_at > BETWEEN:
                self._show_history(trainer)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, "test")
        if self.report:
            if trainer.is_global_zero:
                warn_of_dead(self.report.zero_fraction)
            show(trainer, "Gates/closed in each layer", closed_by_layer(self.report.zero_fraction))
            if self.history:
                self._show_history(trainer)

    def _show_history(self, trainer: pl.Trainer) -> None:
        self.drawn_at = monotonic()
        show(trainer, "Gates/closed while training", closed_by_epoch(self.history))

    def _start(self, pl_module: pl.LightningModule) -> None:
        net = pl_module.net
        assert isinstance(net, nn.Module)
        self.counter = GateCounter(net, self.cost)
        if self.counter.conv_macs:
            torch.compiler.set_stance("force_eager")  # a compiled network overlooks hooks that come and go

    def _finish(self, trainer: pl.Trainer, part: str) -> None:
        if not self.counter.conv_macs:
            return
        self.counter.close()
        torch.compiler.set_stance("default")
        self.report = self.counter.report()
        values = {f"{part}/macs_effective": self.report.macs_mean}
        if part == "val":  # a curve of each gate; for the test, result.json has their numbers and a picture shows them
            values |= {f"val_closed_gates/{name}": zero for name, zero in self.report.zero_fraction.items()}
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
    """Adds up the gate maps (N, 1 or T, H, W) of `net`, whose counts are `cost`, from now until `close`.

    A gated layer may run in any order, several times a forward pass and at several sizes.
    """

    def __init__(self, net: nn.Module, cost: Cost) -> None:
        layers = gated_layers(net)
        self.conv_macs = {name: cost.macs_of(f"{name}.conv") for name in layers}
        self.total_macs = cost.macs
        none = torch.zeros((), dtype=torch.int64, device=next(net.parameters()).device)
        self.zeros = dict.fromkeys(layers, none)
        self.elements = dict.fromkeys(layers, 0)
        self.saved = [none.new_zeros(0)]  # one tensor a forward pass: MACs saved in each image
        self.closed: dict[str, Tensor] = {}  # in this forward pass, of each image
        self.sizes: Counter[str] = Counter()  # in this forward pass, elements of one image's maps
        gates = {name: layer.get_submodule("gate") for name, layer in layers.items()}
        self._watching = ExitStack()
        if layers:
            self._watching.enter_context(watched(gates, after=self._add))
            self._watching.enter_context(watched({"": net}, after=self._finish_pass))

    def close(self) -> None:
        self._watching.close()

    def _add(self, name: str, gate: nn.Module, inputs: tuple, gate_map: Tensor) -> None:
        closed = (gate_map == 0).sum((1, 2, 3))  # N
        self.closed[name] = self.closed[name] + closed if name in self.closed else closed
        self.sizes[name] += gate_map[0].numel()

    def _finish_pass(self, name: str, net: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        saved = self.saved[0].new_zeros(len(inputs[0]))
        for name, closed in self.closed.items():
            # One gate element stands for as many MACs in every run of the layer, a whole number.
            saved += closed * (self.conv_macs[name] // self.sizes[name])
            self.zeros[name] = self.zeros[name] + closed.sum()
            self.elements[name] += self.sizes[name] * len(closed)
        self.saved.append(saved)
        self.closed, self.sizes = {}, Counter()

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
        counted = zip(layers, zeros, elements.tolist(), strict=True)
        fractions = {name: zero / n for name, zero, n in counted if n}  # a layer may never run
        return GateReport(fractions, mean, std, num)

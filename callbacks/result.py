"""Put together what a complete run leaves: result.json, which tables and reports are made of, and its network."""

import logging
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from callbacks import record, trackers
from callbacks.figures import accuracy_figure
from callbacks.gates import GateSparsity
from callbacks.processes import Processes
from callbacks.provenance import device_name, git_sha, versions
from callbacks.start import StartFrom
from callbacks.teacher import TeacherAccuracy
from callbacks.throughput import Throughput
from models.build import Built
from models.load import PREFIX
from models.model_folder import MODEL, write_model
from models.training.epochwise import Epochwise
from models.training.evaluator import Evaluator

log = logging.getLogger(__name__)


class Result(Epochwise, pl.Callback):
    """Collects what the run measured and writes it, once the test is complete, behind the network that was tested.

    `identity`: model, backbone, layer, scope, data and seed by name, and the command. `sources`: the other networks
    that the run began or learnt from. `wall_seconds` runs from here to the end of the test, over restarts as far as
    their checkpoints reach.
    """

    def __init__(
        self,
        run_dir: Path,
        identity: dict[str, Any],
        config: dict[str, Any],
        built: Built,
        gates: GateSparsity,
        throughput: Throughput,
        processes: Processes,
        sources: Mapping[str, StartFrom | TeacherAccuracy],
    ) -> None:
        self.run_dir, self.identity, self.config = run_dir, identity, config
        self.built, self.gates, self.throughput, self.processes = built, gates, throughput, processes
        self.sources = sources
        self.seconds_before, self.start = 0.0, perf_counter()
        self.val_top1: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"wall_seconds": self._wall_seconds(), "val_top1": self.val_top1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before, self.val_top1 = state_dict["wall_seconds"], state_dict["val_top1"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            trackers.begin(trainer.loggers, trackers.hyperparameters(self.identity, self.config))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.val_top1 = float(trainer.callback_metrics["val/top1"])

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            log.info("trainer.fast_dev_run: everything was tried, nothing is recorded")
            return
        assert isinstance(pl_module, Evaluator)
        result = self._collect(trainer, pl_module.num_tested)
        weights = trainer.strategy.lightning_module_state_dict()  # of all processes, where they are shared out
        if trainer.is_global_zero:
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            judged = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items() if name.startswith(PREFIX)}
            write_model(self.run_dir / MODEL, judged, self.config, data.state_dict())
            record.write(self.run_dir, result)
            trackers.report(trainer.loggers, result, trainer.global_step)
            runs = record.neighbours(self.run_dir, self.identity["data"])
            trackers.show(trainer, "Accuracy against MACs", accuracy_figure(runs, result))

    def _collect(self, trainer: pl.Trainer, test_images: int) -> record.Record:
        report = self.gates.report
        return {
            **self.identity,
            **{name: source.record() for name, source in self.sources.items()},
            "epochs": trainer.current_epoch,
            "params": self.built.cost.params,
            "macs": self.built.cost.macs,
            "macs_effective": report.macs_mean if report else None,
            "macs_effective_std": report.macs_std if report else None,
            "macs_effective_images": report.num_images if report else None,
            "baseline_params": self.built.baseline.params,
            "baseline_macs": self.built.baseline.macs,
            "top1": float(trainer.callback_metrics["test/top1"]),
            "top5": float(trainer.callback_metrics["test/top5"]),
            "test_images": test_images,
            "val_top1": self.val_top1,
            "train_images_per_second": self.throughput.images_per_second,
            "wall_seconds": self._wall_seconds(),
            "processes": self.processes.counts,
            "gate_sparsity": report.zero_fraction if report else None,
            "machine": device_name(trainer.strategy.root_device),
            "git_sha": git_sha(),
            "versions": versions(),
            "config": self.config,
        }

    def _wall_seconds(self) -> float:
        return self.seconds_before + perf_counter() - self.start

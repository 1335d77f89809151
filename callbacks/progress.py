"""Show how training goes: a bar on a terminal, one line an epoch elsewhere."""

import logging
import sys
from time import perf_counter

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

from models.training.epochwise import Epochwise

log = logging.getLogger(__name__)


def progress() -> ProgressBar:
    """The bar where standard error is a terminal, lines otherwise (log files, cluster jobs)."""
    return Bar() if sys.stderr.isatty() else EpochLines()


class Bar(TQDMProgressBar):
    """Lightning's bar with the figures of the last finished epoch."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)  # steps

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        return {name: f"{value:.4g}" for name, value in _epoch_metrics(trainer).items()}


class EpochLines(Epochwise, ProgressBar):
    """`epoch 3/15  loss 0.512  top-1 % 84.1  val top-1 % 86  4.1 s` after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.start: float | None = None

    def disable(self) -> None:
        """Asked of every process but the first, whose lines the log leaves out already."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fit_loop.restarted_mid_epoch:  # that epoch does not start again
            self.start = perf_counter()

    # An epoch's own figures are complete only after every on_train_epoch_end has run.
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_last_epoch(trainer)
        self.start = perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_last_epoch(trainer)

    def _report_last_epoch(self, trainer: pl.Trainer) -> None:
        if self.start is not None:
            values = "  ".join(f"{name} {value:.4g}" for name, value in _epoch_metrics(trainer).items())
            seconds = perf_counter() - self.start
            of = f"/{trainer.max_epochs}" if trainer.max_epochs != -1 else ""
            log.info(f"epoch {trainer.current_epoch}{of}  {values}  {seconds:.1f} s")


def _epoch_metrics(trainer: pl.Trainer) -> dict[str, float]:
    shown = {"train/loss": "loss", "train/top1": "top-1 %", "val/top1": "val top-1 %"}
    return {
        label: float(trainer.callback_metrics[key]) for key, label in shown.items() if key in trainer.callback_metrics
    }

"""Say how much of the time a run waits for its data."""

import logging
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch

from models.training.epochwise import Epochwise

log = logging.getLogger(__name__)
BATCHES = 100
MUCH = 0.1


class DataWait(Epochwise, pl.Callback):
    """The share of the time of the first hundred batches (or the first epoch's, if fewer) spent waiting for data.

    The first one, in which workers start and kernels are chosen, does not count. The loader measures its
    own waiting (`waited`, seconds) and knows what would shorten it (`advice`). Each of these batches is
    waited for, so that a batch prepared while the device still computes counts as ready.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches = 0
        self.on_train_batch_end = self._step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.on_train_batch_end is not None:
            self._report(trainer)

    def _step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        loader: Any = trainer.train_dataloader
        if self.batches == 0:
            self.start, self.waited_before = perf_counter(), loader.waited
        self.batches += 1
        if self.batches > BATCHES:
            self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        self.on_train_batch_end = None
        loader: Any = trainer.train_dataloader
        if self.batches < 2:
            return
        share = (loader.waited - self.waited_before) / (perf_counter() - self.start)
        log.info(f"waiting for data: {share:.0%} of the time of {self.batches - 1} batches")
        if share > MUCH:
            log.info(f"to wait less: {loader.advice}")

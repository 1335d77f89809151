"""Measure training speed in images a second."""

from time import perf_counter

import pytorch_lightning as pl
import torch

from models.training.epochwise import Epochwise


class Throughput(Epochwise, pl.Callback):
    """Training images of all processes over the time of the training epochs, validation left out.

    The first epoch, with its warm-up, counts only where there is no other. Of an epoch that was resumed in its
    middle, the part after that counts.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.epochs = 0
        self.elsewhere = 0.0  # seconds in this epoch, validating

    def state_dict(self) -> dict[str, float]:
        return {"images": self.images, "seconds": self.seconds, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict) -> None:
        self.images, self.seconds, self.epochs = (state_dict[key] for key in ("images", "seconds", "epochs"))

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(trainer, pl_module)  # for an epoch resumed in its middle, which does not start again

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(trainer, pl_module)

    def _restart(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = _now(pl_module.device)
        self.elsewhere = 0.0
        self.batches_before = trainer.fit_loop.total_batch_idx

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.elsewhere -= _now(pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.elsewhere += _now(pl_module.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = _now(pl_module.device) - self.start - self.elsewhere
        loader = trainer.train_dataloader
        assert loader is not None
        if self.epochs == 1:
            self.images, self.seconds = 0, 0.0
        batches = trainer.fit_loop.total_batch_idx - self.batches_before
        self.images += batches * loader.batch_size * trainer.world_size
        self.seconds += seconds
        self.epochs += 1


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()

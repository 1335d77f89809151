"""Evaluate the teacher before anything is learnt from it."""

import logging
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch

from models.teacher import Teacher
from models.training.epochwise import Epochwise
from models.training.tally import Tally, judge

log = logging.getLogger(__name__)


class TeacherAccuracy(Epochwise, pl.Callback):
    """Says before the first step which share of the validation images the teacher answers right.

    A checkpoint keeps that, and which weights the teacher had: a run that goes on with others is refused, since its
    result would be that of no single teacher.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.val_top1: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.teacher.weights, "val_top1": self.val_top1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["weights"] != self.teacher.weights:
            raise ValueError(
                f"teacher={self.teacher.source} has other weights than when this run began; put the earlier ones back, "
                "or choose another run_dir to train from the start"
            )
        self.val_top1 = state_dict["val_top1"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.val_top1 is None and sum(trainer.num_val_batches):
            self.val_top1 = self._evaluated(trainer)
        if self.val_top1 is not None:
            log.info(f"teacher {self.teacher.source}: {self.val_top1:.2f} % of the validation images right")

    def record(self) -> dict[str, Any]:
        """What result.json says of the teacher."""
        return {"source": self.teacher.source, "weights_sha256": self.teacher.weights, "val_top1": self.val_top1}

    @torch.no_grad()
    def _evaluated(self, trainer: pl.Trainer) -> float:
        """Top-1 in percent over the images of all processes, each of which must call this."""
        plugin, tally = trainer.precision_plugin, Tally(1)
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        with plugin.val_step_context():
            for batch in islice(data.val_dataloader(), int(sum(trainer.num_val_batches))):
                judge(self.teacher.net, trainer.strategy.batch_to_device(plugin.convert_input(batch)), tally)
        return tally.close()["top1"]

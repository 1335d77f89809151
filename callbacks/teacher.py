"""Evaluate the teacher before anything is learnt from it."""

import logging
from typing import Any

import pytorch_lightning as pl

from callbacks.validation import validation_top1
from models.teacher import Teacher
from models.training.epochwise import Epochwise

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
        if self.val_top1 is None:
            self.val_top1 = validation_top1(trainer, self.teacher.net)
        if self.val_top1 is not None:
            log.info(f"teacher {self.teacher.source}: {self.val_top1:.2f} % of the validation images right")

    def record(self) -> dict[str, Any]:
        """What result.json says of the teacher."""
        return {"source": self.teacher.source, "weights_sha256": self.teacher.weights, "val_top1": self.val_top1}

"""What a network takes the test images of each class for."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from models.training.epochwise import Epochwise
from models.training.processes import sum_over_processes


class Confusion(Epochwise, pl.Callback):
    """Counts the answers, each image once, over all processes.

    After a test, `matrix` (num_classes, num_classes) int64 has a row for each class and a column for each answer;
    `answers` (N,) are those to this process's images, in their order. Both are on the CPU.
    ValueError where the data have other classes than `classes`, the names that the network was trained on, if given.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None) -> None:
        self.num_classes, self.classes = num_classes, classes
        self.matrix = self.answers = torch.empty(0, dtype=torch.int64)
        self.device = self.matrix.device
        self.seen: list[tuple[Tensor, Tensor]] = []  # labels and answers of each batch, on the device

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if self.classes is not None:
            data.load_state_dict({"classes": list(self.classes)})

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.seen.append((batch[1], outputs.argmax(1)))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        labels, answers = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        pairs = torch.bincount(labels.cpu() * self.num_classes + answers.cpu(), minlength=self.num_classes**2)
        self.device = labels.device
        matrix = pairs.to(self.device)
        sum_over_processes(matrix)
        self.matrix, self.answers = matrix.cpu().view(self.num_classes, self.num_classes), answers.cpu()

    def number_of_others(self, answers: Tensor) -> int:
        """To how many images, over all processes, the last test gave other answers than `answers` of a test before."""
        number = (answers != self.answers).sum().to(self.device)
        sum_over_processes(number)
        return int(number)

"""Evaluate an image classifier, on validation or test images; exact over any number of processes."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from .epochwise import Epochwise
from .tally import Tally, judge


class Evaluator(Epochwise, pl.LightningModule):
    """Cross-entropy, top-1 and top-5 in percent of `net` on batches (images (N, C, H, W), labels (N,)).

    They are logged as val/loss, test/top1 and so on. Callbacks get the logits of a test batch as its outputs, and after
    the test the number of its images in `num_tested`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval_tally = Tally(1, 5)
        self.num_tested = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        judge(self.net, batch, self.eval_tally)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return judge(self.net, batch, self.eval_tally)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self.num_tested = round(self.eval_tally.sums()[0])
        self._log_evaluation("test")

    def _log_evaluation(self, part: str) -> None:
        totals = self.eval_tally.close().items()
        self.log_dict({f"{part}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in totals})

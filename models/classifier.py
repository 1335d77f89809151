"""Train and evaluate an image classifier; knows nothing of layers."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from models.epochwise import Epochwise
from models.init import initialise_from
from models.param_groups import param_groups
from models.penalty import GatePenalty
from models.tally import Tally


class Classifier(Epochwise, pl.LightningModule):
    """Cross-entropy on batches (images (N, C, H, W), labels (N,)); top-1 and top-5 in percent.

    `optimizer` and `scheduler` are partials, completed here. Losses and hits are summed on the device
    and read once an epoch and once every `log_every_n_steps` steps. `penalty` is added to what is trained on, and
    logged beside the loss, not in it. Raises ValueError when the loss is no number.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Scheduler],
        penalty: GatePenalty | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 1); 0.1 is usual")
        self.net = net
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.label_smoothing, self.penalty = label_smoothing, penalty
        self.train_tally, self.eval_tally, self.penalty_tally = Tally(1), Tally(1, 5), Tally()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        step = self.global_step
        self.schedule.step_update(step)
        images, labels = batch
        if step == 0 and batch_idx == 0:
            initialise_from(images, self.net)
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.train_tally.add(loss, logits.detach(), labels)
        if (step + 1) % self.trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            self._log_step(loss.item())
        if self.penalty:
            penalty = self.penalty.take()
            self.penalty_tally.add(penalty, logits.detach(), labels)
            return loss + penalty
        return loss

    def _log_step(self, loss: float) -> None:
        """Straight to the loggers: self.log costs as much as a small network's step."""
        self._require_number(loss)
        values = {"train/loss_step": loss, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step + 1)

    def _require_number(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise ValueError(
                f"the training loss is {loss} in epoch {self.current_epoch + 1}, step {self.global_step}; lower "
                "optimizer.lr or lengthen scheduler.warmup_epochs (finished epochs are kept in run_dir/last.ckpt)"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        within_epoch = bool(self.train_tally.batches)
        checkpoint["train_sums"] = self.train_tally.sums() if within_epoch else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["train_sums"]:
            self.train_tally.earlier = checkpoint["train_sums"]

    def on_train_epoch_end(self) -> None:
        totals = self.train_tally.close()
        self._require_number(totals["loss"])  # before the checkpoint of this epoch is written
        self.log_dict({"train/loss": totals["loss"], "train/top1": totals["top1"]})
        if self.penalty:
            self.log("train/gate_penalty", self.penalty_tally.close()["loss"])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self.net(images)
        self.eval_tally.add(F.cross_entropy(logits, labels), logits, labels)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _log_evaluation(self, part: str) -> None:
        totals = self.eval_tally.close().items()
        self.log_dict({f"{part}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in totals})

    def configure_optimizers(self) -> Optimizer:
        defaults = self.make_optimizer(self.net.parameters()).defaults
        optimizer = self.make_optimizer(param_groups(self.net, defaults["lr"], defaults["weight_decay"]))
        num_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        # A function of the step alone, set by training_step: no state to save, and cheaper than Lightning's way.
        self.schedule = self.make_scheduler(optimizer, num_steps, steps_per_epoch)
        return optimizer

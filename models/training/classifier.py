"""Train and evaluate an image classifier; knows nothing of layers."""

import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from .distillation import Distillation
from .divergence import divergence
from .evaluator import Evaluator
from .first_batch import initialise_from
from .param_groups import param_groups
from .penalty import GatePenalty
from .processes import mean_over_processes, share_from_first, sum_over_processes
from .sharding import own_part, shard
from .tally import Tally


class Classifier(Evaluator):
    """Cross-entropy on batches (images (N, C, H, W), labels (N,)); top-1 and top-5 in percent.

    `optimizer` and `scheduler` are partials, completed here. Losses and hits are summed on the device
    and read once an epoch and once every `log_every_n_steps` steps (0: never). `penalty` is added to what is trained
    on, and logged beside the loss, not in it; so are the losses of `distillation`, the first of which takes the place
    of a part of it.
    Raises ValueError where the loss is no finite number, and where a checkpoint would be written of weights that are
    none.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Scheduler],
        penalty: GatePenalty | None = None,
        distillation: Distillation | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(net)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 1); 0.1 is usual")
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.label_smoothing, self.penalty, self.distillation = label_smoothing, penalty, distillation
        self.features = distillation.features if distillation else None
        self.train_tally, self.penalty_tally, self.soft_tally, self.hint_tally = Tally(1), Tally(), Tally(), Tally()
        self.kept_tallies = [self.train_tally, self.penalty_tally, *([self.soft_tally] if distillation else [])]
        self.kept_tallies += [self.hint_tally] if self.features else []

    def configure_model(self) -> None:
        if self.device_mesh:  # given by a strategy that shares out the weights
            if self.features:
                raise ValueError("distillation.features: not with weights that are shared out; choose trainer=ddp")
            shard(self.net, self.device_mesh["data_parallel"])
        beside = [self.distillation.teacher] if self.distillation else []
        beside += [self.features.regressors] if self.features else []
        for module in beside:  # here, before a checkpoint is loaded, which would be rounded
            self.trainer.precision_plugin.convert_module(module).to(self.trainer.strategy.root_device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        step = self.global_step
        self.schedule.step_update(step)
        images, labels = batch
        if step == 0 and batch_idx == 0:
            initialise_from(images, self.net)
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.train_tally.add(loss, logits.detach(), labels)
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if every and (step + 1) % every == 0 and not self.trainer.fit_loop._should_accumulate():
            self._log_step(loss)
        if self.distillation:
            soft = self.distillation.loss(images, logits)
            self.soft_tally.add(soft, logits.detach(), labels)
            weight = self.distillation.weight
            loss = (1 - weight) * loss + weight * soft  # not lerp, which takes no half and float32 together
        if self.features:
            hints = self.features.take()
            self.hint_tally.add(hints, logits.detach(), labels)
            loss = loss + hints
        if self.penalty:
            penalty = self.penalty.take()
            self.penalty_tally.add(penalty, logits.detach(), labels)
            return loss + penalty
        return loss

    def on_after_backward(self) -> None:
        if self.features:
            for weights in self.features.regressors.parameters():
                assert weights.grad is not None
                mean_over_processes(weights.grad)  # as a strategy does for what it knows; once more changes nothing

    def _log_step(self, loss: Tensor) -> None:
        """Straight to the loggers: self.log costs as much as a small network's step."""
        loss = loss.detach().float()
        mean_over_processes(loss)  # so that all of them stop where one has no number
        self._require_number(loss.item())
        values = {
            "train/loss_step": loss.item(),
            "train/learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
        }
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step + 1)

    def _require_number(self, loss: float) -> None:
        if not math.isfinite(loss):
            self._stop_diverging(f"the training loss is {loss}")

    def _stop_diverging(self, what: str) -> NoReturn:
        raise divergence(what, self, self.train_tally, self.steps_per_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = [own_part(weights) for weights in self.parameters()]
        lost = torch.stack([weights.isfinite().all().logical_not() for weights in kept]).sum()
        sum_over_processes(lost)  # so that all of them stop where one has no numbers
        if lost:
            self._stop_diverging("the weights are no numbers")
        checkpoint["train_sums"] = [tally.sums() for tally in self.kept_tallies]
        if self.features:
            checkpoint["regressors"] = self.features.regressors.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.features:
            self.features.regressors.load_state_dict(checkpoint["regressors"])
        for tally, sums in zip(self.kept_tallies, checkpoint["train_sums"], strict=True):
            tally.load(sums)

    def on_train_epoch_end(self) -> None:
        totals = self.train_tally.totals()
        self._require_number(totals["loss"])  # before the checkpoint of this epoch is written
        self.train_tally.clear()
        values = {"train/loss": totals["loss"], "train/top1": totals["top1"]}
        if self.penalty:
            values["train/gate_penalty"] = self.penalty_tally.close()["loss"]
        if self.distillation:
            values["train/distillation"] = self.soft_tally.close()["loss"]
        if self.features:
            values["train/features"] = self.hint_tally.close()["loss"]
        self.log_dict(values, logger=False)
        # Straight to the loggers: Lightning would do it after the checkpoint is written, and a run that goes on from
        # there never repeats them.
        for logger in self.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, self.global_step - 1)
        # BatchNorm's statistics are each process's own until the next step: test what the checkpoint keeps.
        share_from_first(self.net.buffers())

    def configure_optimizers(self) -> Optimizer:
        defaults = self.make_optimizer(self.net.parameters()).defaults
        trained = nn.ModuleList([self.net, self.features.regressors]) if self.features else self.net
        optimizer = self.make_optimizer(param_groups(trained, defaults["lr"], defaults["weight_decay"]))
        if self.device_mesh:
            for group in optimizer.param_groups:
                group["fused"] = False  # PyTorch has no fused SGD for weights that are shared out
        # A function of the step alone, set by training_step: no state to save, and cheaper than Lightning's way.
        num_steps, self.steps_per_epoch = self._num_steps()
        self.schedule = self.make_scheduler(optimizer, num_steps, self.steps_per_epoch)
        return optimizer

    def _num_steps(self) -> tuple[int, int]:
        """Optimizer steps of the run and of an epoch, whose last step takes the batches that remain."""
        trainer = self.trainer
        for name in ("max_epochs", "max_steps", "limit_train_batches"):
            if getattr(trainer, name) == 0:
                raise ValueError(f"trainer.{name}=0: there would be nothing to train; it must be at least 1")
        trainer.fit_loop.setup_data()  # where max_epochs is -1, Lightning does not look at the data before
        num_steps = trainer.estimated_stepping_batches
        if num_steps == math.inf:
            raise ValueError(
                f"trainer.max_epochs={trainer.max_epochs}: without an end there is no learning-rate schedule; "
                "set trainer.max_epochs, or trainer.max_steps"
            )
        return int(num_steps), math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

"""Show how training goes: a live bar on a terminal, a line a minute elsewhere, a line for each epoch on both."""

import logging
import math
import sys
from collections import deque
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from models.training.epochwise import Epochwise

log = logging.getLogger(__name__)
BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}"
Mark = tuple[float, int]  # a time in seconds, and the batches or optimizer steps that were done then


def progress() -> ProgressBar:
    """A bar where standard error is a terminal, lines otherwise (log files, cluster jobs)."""
    return Progress(on_terminal=sys.stderr.isatty())


class Progress(Epochwise, ProgressBar):
    """The first process says where training is, how fast it is and how long it will still take.

    After each epoch: `epoch 3/15  loss 0.512  top-1 84.10 %  val top-1 86.05 %  4.1 s  00:49 left`.
    Images a second are the training images of all processes; the time of validations does not count. The time left
    is what the remaining steps take at the average speed since this start, validations included, the test left out.
    The live loss is the one that the last step minimised on this process, gate penalty included. Reading it waits
    for the device, so it is read only when it is shown: twice a second in a bar, else once a minute.
    """

    def __init__(self, on_terminal: bool) -> None:
        super().__init__()
        self.on_terminal = on_terminal
        self.period = 0.5 if on_terminal else 60.0  # seconds
        self.due = 0.0  # when to show something again
        self.is_first_process = True
        self.bar = tqdm(disable=True)
        self.redirection = ExitStack()  # while there is a bar, log lines and warnings are written above it
        self.epoch = ""
        self.epoch_start: tuple[float, Mark] | None = None
        self.first_step: Mark | None = None  # the end of the first step since this start
        self.marks: deque[Mark] = deque(maxlen=20 if on_terminal else 2)  # the last times something was shown
        self.validating = 0.0  # seconds in validations so far
        self.has_validated = False  # in this epoch

    def disable(self) -> None:
        """Lightning asks this of every process but the first."""
        self.is_first_process = self.on_terminal = False
        self.due = math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.num_steps = int(trainer.estimated_stepping_batches)
        self.steps_an_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        self.num_epochs = math.ceil(self.num_steps / self.steps_an_epoch)
        if trainer.global_step:
            self._say(f"resuming at epoch {trainer.current_epoch + 1}/{self.num_epochs}, step {trainer.global_step}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                self._say(f"to watch the curves: tensorboard --logdir {logger.save_dir}")
        if trainer.fit_loop.restarted_mid_epoch:  # that epoch does not start again
            self._start_epoch(trainer, trainer.fit_loop.epoch_loop.batch_progress.current.completed)

    # An epoch's own figures are complete only after every on_train_epoch_end has run.
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_last_epoch(trainer)
        self._start_epoch(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if perf_counter() < self.due:
            return
        # Lightning has divided the loss. Reading it waits for the device, so the clock is read after it.
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self.marks.append(self._mark(trainer))
        if self.first_step is None:
            self.first_step = perf_counter(), trainer.global_step
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        values = [*self._speed(trainer, self.marks[0]), *self._left(trainer), f"loss {loss:.3g}", f"lr {rate:.3g}"]
        if self.on_terminal:
            self._draw(self.epoch, batch_idx + 1, ", ".join(values))
        elif len(self.marks) > 1:  # one is too few for a speed
            self._say("  ".join([self.epoch, f"step {trainer.global_step}/{self.num_steps}", *values]))
        self.due = perf_counter() + self.period

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_last_epoch(trainer)
        self._close()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validating -= perf_counter()
        self.training_bar = self.bar.n, self.bar.total
        self._turn_to(f"{self.epoch} validation", int(sum(trainer.num_val_batches)))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated(f"{self.epoch} validation", batch_idx + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validating += perf_counter()
        self.bar.n, self.bar.total = self.training_bar
        self.has_validated = True

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._turn_to("test", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated("test", batch_idx + 1)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()
        if isinstance(exception, KeyboardInterrupt):
            self._say("interrupted; the same command goes on from the last checkpoint, if there is one yet")

    def _start_epoch(self, trainer: pl.Trainer, batches_done: int = 0) -> None:
        self.epoch = f"epoch {trainer.current_epoch + 1}/{self.num_epochs}"
        self.epoch_start = perf_counter(), self._mark(trainer)
        self.has_validated = False
        steps_before = trainer.current_epoch * self.steps_an_epoch
        batches_left = (self.num_steps - steps_before) * trainer.accumulate_grad_batches
        self._turn_to(self.epoch, min(int(trainer.num_training_batches), batches_left), batches_done)

    def _report_last_epoch(self, trainer: pl.Trainer) -> None:
        if self.epoch_start is None:
            return
        start, mark = self.epoch_start
        shown = {"train/loss": "loss {:.4g}", "train/top1": "top-1 {:.2f} %"}
        shown |= {"val/top1": "val top-1 {:.2f} %"} if self.has_validated else {}
        metrics = trainer.callback_metrics
        values = [text.format(float(metrics[key])) for key, text in shown.items() if key in metrics]
        speed = [] if self.on_terminal else self._speed(trainer, mark)  # the bar shows it, and 80 columns are full
        self._say("  ".join([self.epoch, *values, *speed, f"{perf_counter() - start:.1f} s", *self._left(trainer)]))
        if not self.on_terminal and self.is_first_process:
            self.due = perf_counter() + self.period

    def _mark(self, trainer: pl.Trainer) -> Mark:
        """The seconds so far without validations, and the batches."""
        return perf_counter() - self.validating, trainer.fit_loop.total_batch_idx + 1

    def _speed(self, trainer: pl.Trainer, since: Mark) -> list[str]:
        seconds, batches = (now - then for now, then in zip(self._mark(trainer), since, strict=True))
        loader: Any = trainer.train_dataloader
        return [f"{batches * loader.batch_size * trainer.world_size / seconds:,.0f} images/s"] if batches else []

    def _left(self, trainer: pl.Trainer) -> list[str]:
        step = trainer.global_step
        if self.first_step is None or step == self.first_step[1] or step == self.num_steps:
            return []
        seconds = (perf_counter() - self.first_step[0]) / (step - self.first_step[1]) * (self.num_steps - step)
        return [f"{tqdm.format_interval(seconds)} left"]

    def _evaluated(self, what: str, batches_done: int) -> None:
        if perf_counter() < self.due:
            return
        if self.on_terminal:
            self._draw(what, batches_done)
        else:
            self._say(f"{what}  batch {batches_done}/{self.bar.total}")
        self.due = perf_counter() + self.period

    def _turn_to(self, what: str, batches: int, batches_done: int = 0) -> None:
        """Let the bar show something else, from its start."""
        if self.on_terminal and self.bar.disable:
            self.bar = tqdm(desc=what, total=batches, bar_format=BAR, file=sys.stderr, dynamic_ncols=True, leave=False)
            self.redirection.enter_context(logging_redirect_tqdm())
            logging.captureWarnings(True)
            self.redirection.callback(logging.captureWarnings, False)
        self.bar.total = batches
        self._draw(what, batches_done)

    def _draw(self, what: str, batches_done: int, values: str = "") -> None:
        self.bar.n = batches_done
        self.bar.set_description_str(what, refresh=False)
        self.bar.set_postfix_str(values)

    def _close(self) -> None:
        self.bar.close()
        self.redirection.close()

    def _say(self, line: str) -> None:
        if self.is_first_process:
            log.info(line)

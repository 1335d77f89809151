"""Keep what a run needs to go on, and stop it where a signal asks for that."""

import io
import logging
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins import TorchCheckpointIO

from callbacks.agreement import Agreement
from callbacks.stopping import stop
from conf.stop import asked_by
from models.load import LAYOUT, read_checkpoint, require_equal_shapes
from models.run_directory import CHECKPOINT, PREVIOUS, write_whole
from models.training.epochwise import Epochwise
from models.training.processes import gather

log = logging.getLogger(__name__)
ADVICE = "put a good copy there, or move it away to train from the start"
SAVE = 1  # what the processes agree on: to save, or to stop for the signal of the number above


class NotSavedError(OSError):
    """A checkpoint, or what belongs to it, could not be written; the message says what is kept."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, in their own folder; last.ckpt keeps the one before it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content, path = io.BytesIO(), Path(path)
        torch.save(checkpoint, content)
        write_whole(path, content.getbuffer(), path.with_name(PREVIOUS) if path.name == CHECKPOINT else None)


class LastCheckpoint(Epochwise, Checkpoint):
    """Writes `run_dir`/last.ckpt, where the same command resumes: at the end of each epoch, within it at the first
    step that ends `every_minutes` after the last one (0: at each step), and before a signal stops the run.

    Its `state_dict` is the network that the test would judge at that moment, each name after `net.`. The loggers' rows
    are written before it, so that a resumed run does not repeat them. Where a validation follows a step within an
    epoch, the checkpoint is written after the validation. It holds the state of the random number generators of each
    process, so that dropout too goes on as if the run had not stopped. All processes save and stop at the same step.
    """

    def __init__(self, run_dir: str, every_minutes: float) -> None:
        if not every_minutes >= 0:
            raise ValueError(f"callbacks.checkpoint.every_minutes={every_minutes}: must be at least 0; 10 is usual")
        self.path, self.every_minutes = Path(run_dir) / CHECKPOINT, every_minutes
        self.generators: list[dict[str, torch.Tensor]] = []  # from a checkpoint, one for each process
        self.agreement: Agreement | None = None
        self.kept = "none was written yet"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Under max_steps Lightning takes the checkpoint of a finished epoch for one within it, and ends it twice.
        trainer.fit_loop._iteration_based_training = lambda: False
        trainer.strategy.checkpoint_io = WholeFiles()
        self.agreement = self.agreement or Agreement()  # here, where the processes are connected
        trainer.precision_plugin.convert_module(pl_module)  # Lightning does it only after it has loaded, and so rounded

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # Lightning then validates; at the limit alone, within an epoch, it would not
        if loop._should_accumulate():
            return
        agreed = self._agreement.lately(_wish() or SAVE * (monotonic() - self.saved_at > 60 * self.every_minutes))
        if not (agreed or self.every_minutes == 0) or loop._is_training_done:
            return
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        if not loop._should_check_val_fx(fetcher):
            self._save(trainer, agreed)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not trainer.fit_loop.epoch_loop._is_training_done:
            self._save(trainer, self._agreement.now(_wish()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, self._agreement.now(_wish()))

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        agreed = self._agreement.lately(_wish())
        if agreed:
            stop(trainer, agreed - SAVE, "trained and saved, not tested")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.completed = progress.processed  # Lightning counts otherwise in a process that only restored

    @property
    def _agreement(self) -> Agreement:
        assert self.agreement is not None
        return self.agreement

    def _save(self, trainer: pl.Trainer, agreed: int) -> None:
        """Write a checkpoint, and stop where that is what the processes `agreed` on."""
        if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._write(trainer)
        self.saved_at = monotonic()
        if agreed > SAVE:
            stop(trainer, agreed - SAVE, f"saved at step {trainer.global_step} (epoch {trainer.current_epoch + 1})")

    def _write(self, trainer: pl.Trainer) -> None:
        try:
            for logger in trainer.loggers:
                logger.save()
            trainer.save_checkpoint(self.path, weights_only=False)
        except OSError as error:
            raise NotSavedError(
                f"cannot write to {self.path.parent} ({error.strerror}); of its checkpoints {self.kept}: make room "
                "there, then give the same command again"
            ) from error
        self.kept = f"that of step {trainer.global_step} is kept"

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["layout"] = LAYOUT

    def state_dict(self) -> dict[str, Any]:
        """The generators of all processes; every process must call this, and all get the same."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return {"generators": gather(states)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.generators = state_dict["generators"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = monotonic()
        if trainer.global_step:
            self.kept = f"that of step {trainer.global_step} is kept"
        rank = trainer.global_rank
        if rank < len(self.generators):
            torch.set_rng_state(self.generators[rank]["cpu"].cpu())
            if "cuda" in self.generators[rank] and torch.cuda.is_available():
                torch.cuda.set_rng_state(self.generators[rank]["cuda"].cpu())
        elif rank:  # with the first process's random numbers, all would drop the same units
            seeds = np.random.SeedSequence((torch.initial_seed(), rank))
            torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))


def resume_from(run_dir: Path, module: pl.LightningModule, is_first_process: bool) -> Path | None:
    """`run_dir`/last.ckpt, or previous.ckpt where `module` cannot go on from that; None where there is neither.

    The first process then renames the one that is of no use, which would otherwise be the next previous.ckpt, and says
    so. Another process that no longer finds it comes to the same choice. ValueError where neither is of use.
    """
    reasons: dict[Path, str] = {}
    for path in (run_dir / CHECKPOINT, run_dir / PREVIOUS):
        if not path.exists():
            continue
        try:
            require_equal_shapes(path, read_checkpoint(path, ADVICE)["state_dict"], module.state_dict(), ADVICE)
        except ValueError as error:
            reasons[path] = str(error).removesuffix(f"; {ADVICE}")
        else:
            if is_first_process:
                for bad, reason in reasons.items():
                    log.warning(f"{reason}; it is {_set_aside(bad)} now, and {path.name} goes on")
            return path
    if reasons:
        raise ValueError(f"{'; '.join(reasons.values())}; {ADVICE}")
    return None


def _set_aside(path: Path) -> str:
    """Rename the file; its new name."""
    free = next(name for n in count(1) if not (name := path.with_name(f"{path.stem}.bad{n}.ckpt")).exists())
    return path.rename(free).name


def _wish() -> int:
    signal = asked_by()
    return signal + SAVE if signal else 0

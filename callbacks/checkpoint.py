"""Keep what a run needs to go on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from models.load import LAYOUT, read_checkpoint, require_equal_shapes
from models.run_directory import CHECKPOINT
from models.training.epochwise import Epochwise
from models.training.processes import gather


class LastCheckpoint(Epochwise, Checkpoint):
    """Writes `run_dir`/last.ckpt, where the same command resumes: at the end of each epoch and every `every_steps`.

    Its `state_dict` is the network that the test would judge at that moment, each name after `net.`. The loggers' rows
    are written before it, so that a resumed run does not repeat them. Where a validation follows a step within an
    epoch, the checkpoint is written after the validation. It holds the state of the random number generators of each
    process, so that dropout too goes on as if the run had not stopped.
    """

    def __init__(self, run_dir: str, every_steps: int) -> None:
        if every_steps < 1:
            raise ValueError(f"callbacks.checkpoint.every_steps={every_steps}: must be at least 1; 1000 is usual")
        self.path, self.every_steps = Path(run_dir) / CHECKPOINT, every_steps
        self.generators: list[dict[str, torch.Tensor]] = []  # from a checkpoint, one for each process

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Under max_steps Lightning takes the checkpoint of a finished epoch for one within it, and ends it twice.
        trainer.fit_loop._iteration_based_training = lambda: False
        trainer.precision_plugin.convert_module(pl_module)  # Lightning does it only after it has loaded, and so rounded

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # Lightning then validates; at the limit alone, within an epoch, it would not
        if trainer.global_step % self.every_steps or loop._should_accumulate() or loop._is_training_done:
            return
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        if not loop._should_check_val_fx(fetcher):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not trainer.fit_loop.epoch_loop._is_training_done:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.completed = progress.processed  # Lightning counts otherwise in a process that only restored

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)

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
        rank = trainer.global_rank
        if rank < len(self.generators):
            torch.set_rng_state(self.generators[rank]["cpu"].cpu())
            if "cuda" in self.generators[rank] and torch.cuda.is_available():
                torch.cuda.set_rng_state(self.generators[rank]["cuda"].cpu())
        elif rank:  # with the first process's random numbers, all would drop the same units
            seeds = np.random.SeedSequence((torch.initial_seed(), rank))
            torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))


def resume_from(run_dir: Path, module: pl.LightningModule) -> Path | None:
    """`run_dir`/last.ckpt, None where there is none; ValueError where `module` cannot go on from it."""
    path = run_dir / CHECKPOINT
    if not path.exists():
        return None
    advice = "put a good copy there, or move it away to train from the start"
    require_equal_shapes(path, read_checkpoint(path, advice)["state_dict"], module.state_dict(), advice)
    return path

"""Keep what a run needs to go on."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from models.epochwise import Epochwise


class Last(Epochwise, ModelCheckpoint):
    """Writes `run_dir`/last.ckpt, where the same command resumes: at the end of each epoch and every `every_steps`.

    The state of the random number generators goes with it, so that dropout too repeats what it would have done.
    """

    def __init__(self, run_dir: str, every_steps: int) -> None:
        if every_steps < 1:
            raise ValueError(f"callbacks.checkpoint.every_steps={every_steps}: must be at least 1; 1000 is usual")
        super().__init__(run_dir, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.every_steps = every_steps
        self.generators: dict[str, torch.Tensor] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == trainer.num_training_batches  # the end of the epoch saves anyway
        accumulating = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if trainer.global_step % self.every_steps == 0 and not last and not accumulating:
            trainer.save_checkpoint(f"{self.dirpath}/last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        devices = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            devices["cuda"] = torch.cuda.get_rng_state()
        return super().state_dict() | {"generators": devices}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.generators = state_dict.pop("generators")
        super().load_state_dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.generators:
            torch.set_rng_state(self.generators["cpu"].cpu())
        if "cuda" in self.generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.generators["cuda"].cpu())

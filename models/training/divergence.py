"""Say where a training lost its numbers: the step, and the images of it."""

from typing import Any

import pytorch_lightning as pl

from ..run_directory import CHECKPOINT, FAILURE
from .processes import gather
from .tally import Tally

SHOWN = 8  # images in the message; the note of the error has all


def divergence(what: str, module: pl.LightningModule, losses: Tally, steps_per_epoch: int) -> ValueError:
    """The error for `what` went wrong in the epoch at hand, whose `losses` so far say since when; all must call it."""
    trainer: Any = module.trainer
    ago = losses.batches_since_no_number()
    mine = None if ago is None else trainer.fit_loop.batch_idx - ago
    first = min((batch for batch in gather(mine) if batch is not None), default=None)
    epoch, step, images = module.current_epoch, module.global_step, []
    if first is not None:
        step = epoch * steps_per_epoch + first // trainer.accumulate_grad_batches + 1
        names = trainer.datamodule.names_of_batch(first) if mine == first and trainer.datamodule else []
        images = [name for part in gather(names) for name in part]
    kept = f" (finished epochs are kept in run_dir/{CHECKPOINT})" if epoch else ""
    shown = ", ".join(images[:SHOWN]) + (f" and {len(images) - SHOWN} more ({FAILURE})" if images[SHOWN:] else "")
    of_images = f" (training images {shown})" if images else ""
    error = ValueError(
        f"{what} in epoch {epoch + 1}, step {step}{of_images}; lower optimizer.lr or lengthen "
        f"scheduler.warmup_epochs{kept}"
    )
    if images:
        error.add_note(f"training images of step {step}: {', '.join(images)}")
    return error

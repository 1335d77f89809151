"""How many of the validation images a network has right, asked between the steps of a training."""

from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from models.training.tally import Tally, judge


@torch.no_grad()
def validation_top1(trainer: pl.Trainer, net: nn.Module) -> float | None:
    """Top-1 of `net`, in evaluation mode, in percent over the images of all processes, each of which must call this.

    None where the run has no validation images.
    """
    plugin, tally = trainer.precision_plugin, Tally(1)
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    if not sum(trainer.num_val_batches):
        return None
    with plugin.val_step_context():
        for batch in islice(data.val_dataloader(), int(sum(trainer.num_val_batches))):
            judge(net, trainer.strategy.batch_to_device(plugin.convert_input(batch)), tally)
    return tally.close()["top1"]

"""Which numbers of processes trained a run, and what changes where a run goes on with another number."""

import logging
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.training.epochwise import Epochwise

log = logging.getLogger(__name__)


class Processes(Epochwise, pl.Callback):
    """`counts`: the number of processes, and after it each other number with which the run went on.

    A step has the same images whatever their number (data/loader.py), and gradients are their mean: equal, but for
    rounding. What each process does with its share alone is not: BatchNorm's statistics unless they are synchronised,
    the partners of mixed images, the units that dropout leaves out. The log says so where it matters.
    `synchronised`: BatchNorm's statistics are those of all processes.
    """

    def __init__(self, synchronised: bool) -> None:
        self.synchronised = synchronised
        self.counts: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts = list(state_dict["counts"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = trainer.world_size
        if self.counts and self.counts[-1] != now:
            log.info(self.what_changes(pl_module, self.counts[-1], now, trainer.datamodule))  # pyright: ignore[reportAttributeAccessIssue]
        if not self.counts or self.counts[-1] != now:
            self.counts = [*self.counts, now]

    def what_changes(self, module: nn.Module, before: int, now: int, data: Any) -> str:
        """`processes: 4 now, 8 before; ...`: what of the next steps is not as it would have been."""
        kinds = {type(part) for part in module.modules()}
        changes = []
        if any(issubclass(kind, _BatchNorm) for kind in kinds) and not self.synchronised:
            sizes = f"{data.batch_size // now} images at a time, not {data.batch_size // before}"
            changes.append(f"BatchNorm's statistics are of {sizes} (trainer.sync_batchnorm=true takes those of all)")
        if any(issubclass(kind, nn.modules.dropout._DropoutNd) for kind in kinds):
            changes.append("dropout leaves out other units")
        if data.mix:
            changes.append("images are mixed with other partners")
        same = "each step has the same images, and what it learns from them is the same but for rounding"
        return f"processes: {now} now, {before} before; {'; '.join(changes) or same}"

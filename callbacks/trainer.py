"""Lightning's Trainer as a run needs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger

from callbacks.stopping import leave_to_us
from conf import processes
from models.training.sync_norm import SyncBatchNorm


def make_trainer(
    options: dict[str, Any], run_dir: Path, loggers: Sequence[Logger], callbacks: Sequence[pl.Callback]
) -> pl.Trainer:
    """The Trainer of the configuration's plain `options`; ValueError where they ask for what is not there."""
    synced = [SyncBatchNorm()] if options.get("sync_batchnorm") else []
    trainer: pl.Trainer = instantiate(
        options,
        default_root_dir=str(run_dir),
        logger=list(loggers),
        plugins=[*synced, *(options.get("plugins") or [])],
        callbacks=list(callbacks),
        _convert_="all",
    )
    leave_to_us(trainer)
    processes.require_all(trainer.num_nodes * trainer.num_devices)
    return trainer

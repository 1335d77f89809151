"""Tell the trackers of a run what it was, what came of it, and what there is to look at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from conf.identity import identifying

NAMES = ("model", "backbone", "layer", "scope", "data", "seed")
FINAL = ("top1", "top5", "val_top1", "epochs", "params", "macs", "macs_effective", "baseline_params", "baseline_macs")
FINAL += ("train_images_per_second", "wall_seconds")


def hyperparameters(result: dict[str, Any]) -> dict[str, Any]:
    """What identifies the run, by dotted key: numbers, words and truth values; a list is written out."""
    settings = {key: value for key, value in identifying(result["config"]).items() if not key.endswith("_partial_")}
    plain = {key: str(value) if isinstance(value, list) else value for key, value in settings.items()}
    return {name: result[name] for name in NAMES} | plain


def final_metrics(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of the run as `final/top1`, `final/macs`, ...; without those that it does not have."""
    return {f"final/{name}": result[name] for name in FINAL if result[name] is not None}


def report(loggers: Iterable[Logger], result: dict[str, Any], step: int) -> None:
    """Hand both to each of `loggers`, to TensorBoard as a row of its table of hyperparameters.

    CSV has nothing to compare runs with; result.json is there for that.
    """
    settings, metrics = hyperparameters(result), final_metrics(result)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings, metrics, step)
            Path(logger.log_dir, logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # written when there were none yet
        elif not isinstance(logger, CSVLogger):
            logger.log_hyperparams(settings)
            logger.log_metrics(metrics, step)
        logger.save()


def show(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Hand `figure` to TensorBoard, where it is one of the loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.add_figure(name, figure, trainer.global_step)

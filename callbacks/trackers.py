"""Tell the trackers of a run what it was, what came of it, and what there is to look at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from conf.identity import identifying

NAMES = ("model", "backbone", "layer", "scope", "data", "seed")
FINAL = {  # the final numbers, and what TensorBoard calls them: it sorts them, and shows the first five of all
    "macs": "MACs an image",
    "macs_effective": "MACs an image, closed gates skipped",
    "top1": "accuracy, test top-1 %",
    "val_top1": "accuracy, validation top-1 %",
    "epochs": "epochs",
    "params": "parameters",
    "baseline_macs": "plain network, MACs an image",
    "baseline_params": "plain network, parameters",
    "wall_seconds": "seconds",
    "top5": "test top-5 %",
    "train_images_per_second": "training images a second",
}


def hyperparameters(identity: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What identifies a run, by name and by dotted key: numbers and words; lists and truth values are written out.

    `identity` has the names, of network and data among others, which say more than the classes behind them.
    """
    settings = {name: identity[name] for name in NAMES}
    for key, value in identifying(config).items():
        if not key.endswith("_partial_") and not (key.startswith(("model.", "data.")) and key.endswith("_target_")):
            settings[key] = str(value) if isinstance(value, list | bool) else value
    return settings


def begin(loggers: Iterable[Logger], settings: dict[str, Any]) -> None:
    """Hand the hyperparameters to each of `loggers`, to TensorBoard as a row of its table of them.

    CSV has nothing to compare runs with; result.json is there for that.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # Without a list of columns, which of one run would be that of all: TensorBoard then takes the columns of
            # all runs, those in which they differ first.
            _, started, _ = hparams(settings, {})
            logger.experiment._get_file_writer().add_summary(started)
            Path(logger.log_dir, logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # of a shorter run before
            logger.log_hyperparams(settings, {})  # to the file of that name alone
        elif not isinstance(logger, CSVLogger):
            logger.log_hyperparams(settings)
        logger.save()


def report(loggers: Iterable[Logger], result: dict[str, Any], step: int) -> None:
    """Hand the final numbers to each of `loggers`, but to CSV; to TensorBoard in words, the group before all others."""
    numbers = {name: result[name] for name in FINAL if result[name] is not None}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_metrics({f"Result/{FINAL[name]}": number for name, number in numbers.items()}, step)
        elif not isinstance(logger, CSVLogger):
            logger.log_metrics({f"final/{name}": number for name, number in numbers.items()}, step)
        logger.save()


def show(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Hand `figure` to TensorBoard, where it is one of the loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.add_figure(name, figure, trainer.global_step)

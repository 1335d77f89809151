"""End the trials of a search that are hopeless."""

import json
import signal
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl

from models.run_directory import write_whole
from models.training.epochwise import Epochwise

CURVE = "curve.json"  # of each trial, in its folder of the search
PRUNED = "pruned.txt"  # why a trial was ended
RIVALS = 3  # with fewer to compare with, nothing is ended
FREE = 0.25  # the share of the steps in which nothing is ended


class Pruning(Epochwise, pl.Callback):
    """The median rule for two objectives: a trial ends where those that cost no more are better.

    After a validation past the first quarter of the steps, the best validation top-1 so far is compared with the
    median of what the trials with at most as many MACs had by then; below it, the run stops as if by a signal. So the
    cheapest trials always run to their end. `search`: the folder of the search; `macs`: of this trial's network.
    """

    def __init__(self, search: str, trial: int, macs: int) -> None:
        self.folder, self.macs = Path(search) / f"trial{trial}", macs
        self.best: list[float] = []  # of validation top-1 after each validation, in percent

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.best.append(max([float(trainer.callback_metrics["val/top1"]), *self.best]))
        if not trainer.is_global_zero:
            return
        write_whole(self.folder / CURVE, json.dumps({"macs": self.macs, "best": self.best}))
        rivals, is_early = self._rivals(), trainer.global_step < FREE * trainer.estimated_stepping_batches
        if is_early or len(rivals) < RIVALS or self.best[-1] >= median(rivals):
            return
        theirs = f"the median of the {len(rivals)} that cost no more {median(rivals):.2f} %"
        write_whole(self.folder / PRUNED, f"validation top-1 {self.best[-1]:.2f} %, {theirs}\n")
        signal.raise_signal(signal.SIGTERM)  # noted, and agreed on by all processes of the run

    def _rivals(self) -> list[float]:
        """The best so far of the trials that cost no more and have come as far."""
        others = [path for path in self.folder.parent.glob(f"trial*/{CURVE}") if path.parent != self.folder]
        curves, number = [json.loads(path.read_text()) for path in others], len(self.best)
        return [
            each["best"][number - 1] for each in curves if each["macs"] <= self.macs and len(each["best"]) >= number
        ]

"""The figures that TensorBoard shows."""

from collections.abc import Sequence

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger


def gate_figure(zero_fraction: dict[str, float]) -> Figure:
    """One bar a gate, in the order of the network: the share of closed positions in percent."""
    figure = Figure(figsize=(max(5.0, 0.3 * len(zero_fraction) + 2), 4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(list(zero_fraction), [100 * zero for zero in zero_fraction.values()], color="tab:blue")
    axes.set(ylabel="closed gate positions, %", ylim=(0, 100), title="Gate sparsity by layer (test set)")
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    return figure


def accuracy_figure(runs: Sequence[dict], current: dict) -> Figure:
    """Test top-1 against MACs an image of finished runs on one data set; gated runs at effective MACs.

    `runs` and `current` are contents of result.json; a thin line joins a gated run to its dense MACs.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for run in [*runs, current]:
        macs = run["macs_effective"] or run["macs"]
        color = "tab:red" if run is current else "tab:gray"
        axes.plot([macs, run["macs"]], [run["top1"]] * 2, color=color, linewidth=0.8)
        axes.plot(macs, run["top1"], "o", color=color)
        axes.annotate(run["model"], (macs, run["top1"]), textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.axvline(current["baseline_macs"], color="tab:blue", linestyle=":", label="baseline MACs")
    axes.set(xscale="log", xlabel="MACs an image (gated: effective)", ylabel="test top-1, %", title=current["data"])
    axes.legend(fontsize=7)
    return figure


def show(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Hand `figure` to TensorBoard, where it is one of the loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.add_figure(name, figure, trainer.global_step)

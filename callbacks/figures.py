"""The figures that TensorBoard shows."""

from collections.abc import Sequence

import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from matplotlib.transforms import Bbox
from pytorch_lightning.loggers import TensorBoardLogger


def gate_figure(zero_fraction: dict[str, float]) -> Figure:
    """One bar a gate, in the order of the network: the share of closed positions in percent."""
    figure = Figure(figsize=(max(5.0, 0.3 * len(zero_fraction) + 2), 4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(zero_fraction)), [100 * zero for zero in zero_fraction.values()], color="tab:blue")
    axes.set_xticks(range(len(zero_fraction)), list(zero_fraction))
    axes.set(ylabel="closed gate positions, %", ylim=(0, 100), title="Gate sparsity by layer (test set)")
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    return figure


def accuracy_figure(runs: Sequence[dict], current: dict) -> Figure:
    """Test top-1 against MACs an image of finished runs on one data set; gated runs at effective MACs.

    `runs` and `current`, in red, are contents of result.json; a thin line joins a gated run to its dense MACs.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(current["baseline_macs"] / 1e6, color="tab:blue", linestyle=":", label="baseline MACs")
    for run in [*runs, current]:
        dense, macs = run["macs"] / 1e6, (run["macs_effective"] or run["macs"]) / 1e6
        color = "tab:red" if run is current else "black"
        axes.plot([macs, dense], [run["top1"]] * 2, "o-", color=color, linewidth=0.8, markerfacecolor="none")
        axes.plot(macs, run["top1"], "o", color=color)
    axes.plot([], [], "o", color="gray", markerfacecolor="none", label="dense MACs of a gated network")
    axes.set(xscale="log", xlabel="million MACs an image (gated: closed positions skipped)", ylabel="test top-1, %")
    axes.set_title(current["data"])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.2, y=0.15)
    axes.legend(fontsize=8)
    figure.draw_without_rendering()  # only then is it known where things lie
    _name(axes, [((run["macs_effective"] or run["macs"]) / 1e6, run["top1"], run["model"]) for run in [*runs, current]])
    return figure


def _name(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write the name of each (x, y, name) above or below its point, as near as it covers no other name."""
    taken: list[Bbox] = []
    for x, y, name in sorted(points):
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", ha="center", va="center", fontsize=8)
        for offset in (10, -10, 20, -20, 30, -30):  # points
            text.set_position((0, offset))
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(text.get_window_extent())


def show(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Hand `figure` to TensorBoard, where it is one of the loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.add_figure(name, figure, trainer.global_step)

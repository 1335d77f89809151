"""The picture of a table of finished runs: accuracy against MACs."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from callbacks.labels import Name, place_names
from sweeps.short_names import short_names
from sweeps.table import Row, recipe_key, rows

Record = dict[str, Any]
FRONT, CURRENT, OTHER = "tab:blue", "tab:red", "0.4"
POINT = 6.0  # diameter of a point, in points


def accuracy_figure(records: Sequence[Record], current: Record | None = None, *, title: str | None = None) -> Figure:
    """Test top-1 in percent against MACs an image of finished runs on one data set, their seeds averaged.

    `records` are contents of result.json; the recipe of `current`, which may be one of them, is red. A network with
    gates stands at the MACs that remain where closed positions are skipped; a line joins it to all of its MACs. The
    steps are the Pareto front: no other network here has more top-1 for its MACs. Bars are sample standard deviations.
    """
    known = [*records, *([current] if current and current not in records else [])]
    found, own = rows(known), recipe_key(current) if current else ""
    is_small = len(found) <= 10  # shown as small as TensorBoard does, letters of a smaller picture are larger
    figure = Figure(figsize=(6.4, 4.8) if is_small else (8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    front = [(row.macs_needed, row.top1) for row in found if row.on_front]
    axes.step(*zip(*front, strict=True), where="post", color=FRONT, linewidth=1, alpha=0.6, zorder=1)
    for row in found:
        _draw(axes, row, CURRENT if row.recipe == own else FRONT if row.on_front else OTHER)
    backbone, names = short_names(known, found)
    axes.set_title(title or f"{backbone or 'Networks'} on {known[0]['data']}: accuracy against computation")
    axes.set(xscale="log", xlabel="multiply-adds (MACs) an image, millions", ylabel="test accuracy (top-1), %")
    axes.margins(x=0.12, y=0.1)
    _few_ticks(axes)
    _explain(figure, axes, found, own)
    figure.draw_without_rendering()  # only then is it known where things lie
    figure.set_layout_engine("none")  # and there they stay
    order = sorted(zip(found, names, strict=True), key=lambda pair: (pair[0].recipe != own, not pair[0].on_front))
    place_names(axes, [Name(row.macs_needed, row.top1, name, row.on_front) for row, name in order])
    return figure


def _draw(axes: Axes, row: Row, color: str) -> None:
    """A point, its bar, and for a network with gates a line to all of its MACs."""
    if row.macs_effective is not None:
        ends = [row.macs_effective, row.macs], [row.top1, row.top1]
        axes.plot(*ends, "o-", color=color, linewidth=0.8, markersize=POINT, markerfacecolor="w")
    axes.errorbar(
        row.macs_needed, row.top1, row.top1_std, color=color, fmt="o", markersize=POINT, capsize=2.5, elinewidth=1
    )


def _few_ticks(axes: Axes) -> None:
    """Plain numbers of millions, at 1, 2 and 5 times a power of ten where these are neither too many nor too few."""
    low, high = axes.get_xlim()
    decades = LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,))
    axes.xaxis.set_major_locator(decades if high > 5 * low else MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda macs, position: f"{macs / 1e6:g}")
    axes.minorticks_off()
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def _explain(figure: Figure, axes: Axes, found: Sequence[Row], own: str) -> None:
    """What the signs mean that are there, under the axes, where it covers no point."""
    fewest, most = min(row.n for row in found), max(row.n for row in found)
    runs = (
        f", mean of {fewest} to {most} runs" if fewest < most else f", mean of {most} runs" if most > 1 else ", one run"
    )
    bar = "; bar: sample standard deviation" if most > 1 else ""
    axes.plot([], [], "o", color=OTHER, markersize=POINT, label=f"a network{runs}{bar}")
    axes.plot([], [], "o-", color=FRONT, markersize=POINT, label="no other here is more accurate with as few MACs")
    if any(row.recipe == own for row in found):
        axes.plot([], [], "o", color=CURRENT, markersize=POINT, label="this run's network")
    if any(row.macs_effective is not None for row in found):
        text = "with gates: closed positions skipped (full), computed (hollow)"
        axes.plot([], [], "o-", color=OTHER, markersize=POINT, markerfacecolor="w", label=text)
    figure.legend(loc="outside lower center", ncols=2 if figure.get_figwidth() > 7 else 1, fontsize=8, frameon=False)

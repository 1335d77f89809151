"""The finished runs as one table: a row for each recipe, its seeds together, and what no other row beats."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from conf.identity import differences, digest, identifying
from models.columns import columns

Record = dict[str, Any]
HEADING = ("", "n", "epochs", "parameters", "MACs", "closed gates skipped", "test top-1 %", "")


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but their seeds: means, and the sample standard deviation of top-1 in percent.

    `macs_effective` are the MACs without closed gates, None where there are no gates. `on_front`: no other row
    on the same data has at least this top-1 with fewer MACs, nor more top-1 with as few; closed gates are skipped.
    """

    name: str
    data: str
    n: int
    epochs: int
    params: int
    macs: int
    macs_effective: float | None
    top1: float
    top1_std: float | None
    commits: int
    on_front: bool = False

    @property
    def macs_needed(self) -> float:
        return self.macs if self.macs_effective is None else self.macs_effective


def recipe_key(record: Record) -> str:
    """The same eight hexadecimal digits for all runs that differ in nothing but their seeds, and for no others."""
    return digest(record["config"] | {"seed": None})


def rows(records: Sequence[Record]) -> list[Row]:
    """The rows of the runs' results, by MACs; the name says in what a recipe differs from another of its network."""
    recipes: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        recipes[recipe_key(record)].append(record)
    names = _names([runs[0] for runs in recipes.values()])
    found = [_row(name, runs) for name, runs in zip(names, recipes.values(), strict=True)]
    found.sort(key=lambda row: (row.data, row.macs_needed, -row.top1))
    return [replace(row, on_front=not any(_beats(other, row) for other in found)) for row in found]


def text_table(records: Sequence[Record]) -> str:
    """The rows in columns; a star marks the accuracy/MACs Pareto front."""
    if not records:
        return "no finished runs"
    found = rows(records)
    lines = columns([HEADING, *map(_cells, found)], left=1)
    lines.append("n runs each, top-1 as mean +/- sample standard deviation; * no other row has more top-1 for its MACs")
    if any(row.commits > 1 for row in found):
        lines.append("+ runs of more than one commit of this code")
    return "\n".join(lines)


def _row(name: str, runs: Sequence[Record]) -> Row:
    top1 = [run["top1"] for run in runs]
    effective = [run["macs_effective"] for run in runs if run["macs_effective"] is not None]
    return Row(
        name=name,
        data=runs[0]["data"],
        n=len(runs),
        epochs=runs[0]["epochs"],
        params=runs[0]["params"],
        macs=runs[0]["macs"],
        macs_effective=fmean(effective) if effective else None,
        top1=fmean(top1),
        top1_std=stdev(top1) if len(top1) > 1 else None,
        commits=len({run["git_sha"] for run in runs}),
    )


def _names(firsts: Sequence[Record]) -> list[str]:
    """The network of each recipe, its data set if there are several, and the values that set it apart from others."""
    several = len({run["data"] for run in firsts}) > 1
    heads = [f"{run['model']} on {run['data']}" if several else str(run["model"]) for run in firsts]
    recipes = [identifying(run["config"]) for run in firsts]
    names = []
    for head, recipe in zip(heads, recipes, strict=True):
        same = [other for name, other in zip(heads, recipes, strict=True) if name == head]
        keys = sorted({key for other in same for key in differences(recipe, other)} - {"seed"})
        names.append(" ".join([head, *(f"{key}={recipe.get(key)}" for key in keys)]))
    return names


def _beats(one: Row, other: Row) -> bool:
    no_worse = one.macs_needed <= other.macs_needed and one.top1 >= other.top1
    return one.data == other.data and no_worse and (one.macs_needed, one.top1) != (other.macs_needed, other.top1)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.n}{'+' if row.commits > 1 else ''}",
        str(row.epochs),
        f"{row.params:,}",
        f"{row.macs:,}",
        "" if row.macs_effective is None else f"{round(row.macs_effective):,}",
        f"{row.top1:.2f}" if row.top1_std is None else f"{row.top1:.2f} +/- {row.top1_std:.2f}",
        "*" if row.on_front else "",
    )

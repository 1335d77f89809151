"""The finished runs as one table: a row for each recipe, its seeds together, and what no other row beats."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from conf.identity import digest, identifying
from models.columns import columns

Record = dict[str, Any]
HEADING = ("", "n", "epochs", "parameters", "MACs", "closed gates skipped", "test top-1 %", "")


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but their seeds: means, and the sample standard deviation of top-1 in percent.

    `recipe` is their `recipe_key`. `macs_effective` are the MACs without closed gates, None where there are no gates;
    `gates_closed` the mean, the least and the most over the gates of their share of closed positions. `on_front`: no
    other row on the same data has at least this top-1 with fewer MACs, nor more top-1 with as few; closed gates are
    skipped.
    """

    name: str
    recipe: str
    data: str
    n: int
    epochs: int
    params: int
    macs: int
    macs_effective: float | None
    top1: float
    top1_std: float | None
    commits: int
    gates_closed: tuple[float, float, float] | None = None
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
    found = [_row(name, key, runs) for name, (key, runs) in zip(names, recipes.items(), strict=True)]
    found.sort(key=lambda row: (row.data, row.macs_needed, -row.top1))
    return [
        replace(row, on_front=on_front)
        for _, same in groupby(found, lambda row: row.data)
        for row, on_front in _with_front(list(same))
    ]


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each (cost, accuracy): whether no other has at least its accuracy for less, nor more of it for as little."""
    best, kept = -math.inf, set()
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            kept.add((cost, accuracy))
    return [point in kept for point in points]


def gate_shares(records: Sequence[Record]) -> dict[str, float]:
    """Of each gate, in the order of the network: its share of closed positions, averaged over the runs."""
    shares = [record["gate_sparsity"] for record in records if record["gate_sparsity"]]
    names = [name for name in shares[0] if all(name in share for share in shares)] if shares else []
    return {name: fmean(share[name] for share in shares) for name in names}


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


def _row(name: str, recipe: str, runs: Sequence[Record]) -> Row:
    top1 = [run["top1"] for run in runs]
    effective = [run["macs_effective"] for run in runs if run["macs_effective"] is not None]
    shares = gate_shares(runs).values()
    return Row(
        name=name,
        recipe=recipe,
        data=runs[0]["data"],
        n=len(runs),
        epochs=runs[0]["epochs"],
        params=runs[0]["params"],
        macs=runs[0]["macs"],
        macs_effective=fmean(effective) if effective else None,
        top1=fmean(top1),
        top1_std=stdev(top1) if len(top1) > 1 else None,
        commits=len({run["git_sha"] for run in runs}),
        gates_closed=(fmean(shares), min(shares), max(shares)) if shares else None,
    )


def _names(firsts: Sequence[Record]) -> list[str]:
    """The network of each recipe, its data set if there are several, and the values that set it apart from others."""
    several = len({run["data"] for run in firsts}) > 1
    heads = [f"{run['model']} on {run['data']}" if several else str(run["model"]) for run in firsts]
    recipes = [identifying(run["config"]) for run in firsts]
    return [" ".join([head, *words]) for head, words in zip(heads, set_apart(heads, recipes), strict=True)]


def set_apart(heads: Sequence[str], recipes: Sequence[dict[str, Any]]) -> list[list[str]]:
    """For each recipe, as key=value, what sets it apart from others of its head; seeds do not, nor does a value that
    more than half of these have.
    """
    same: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for head, recipe in zip(heads, recipes, strict=True):
        same[head].append(recipe)
    usual = {head: _usual(of_head) for head, of_head in same.items()}
    return [
        [f"{key}={recipe.get(key)}" for key, value in usual[head].items() if value != repr(recipe.get(key))]
        for head, recipe in zip(heads, recipes, strict=True)
    ]


def _usual(recipes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Of each key in which they differ, how the value of more than half of them is written; "" where there is none."""
    usual = {}
    for key in sorted({key for recipe in recipes for key in recipe} - {"seed"}):
        value, number = Counter(repr(recipe.get(key)) for recipe in recipes).most_common(1)[0]
        usual[key] = value if 2 * number > len(recipes) else ""
    return usual


def _with_front(same: Sequence[Row]) -> Iterable[tuple[Row, bool]]:
    return zip(same, front([(row.macs_needed, row.top1) for row in same]), strict=True)


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

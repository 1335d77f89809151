"""Runs put into groups that can be compared: the same data and recipe, and whatever network."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from callbacks.record import but_for_layers
from conf.identity import identifying
from scripts.reports.found import Found, Record, Run
from sweeps.paired import Difference, paired_difference
from sweeps.table import Row, gate_shares, recipe_key, rows, set_apart

OF_NETWORKS = ("model.", "gate_penalty.", "seed")
SHORT = 10  # digits that tell one commit from the others


@dataclass(frozen=True)
class Line:
    """One network of a group: its row, its runs, what was measured of it, and how it compares with `baseline`.

    `baseline` is the row that differs in nothing but the convolutions, which are plain; None where there is none.
    """

    row: Row
    runs: list[Run]
    speed: Record
    baseline: Row | None
    difference: Difference | None

    @property
    def first(self) -> Record:
        return self.runs[0].record

    @property
    def is_plain(self) -> bool:
        return self.first["layer"] == "conv"

    @property
    def times_fewer_macs(self) -> float:
        return self.first["baseline_macs"] / self.row.macs_needed

    @property
    def gates(self) -> dict[str, float]:
        return gate_shares([run.record for run in self.runs])

    def all_of(self, key: str) -> list[str]:
        """What the runs say of `key`, each once; `not recorded` for what results of before do not say."""
        return list(dict.fromkeys(str(run.record.get(key) or "not recorded") for run in self.runs))

    @property
    def notes(self) -> list[str]:
        """What is to be known of runs that are one row here."""
        seeds = [run.record["config"]["seed"] for run in self.runs]
        commits, machines = self.all_of("git_sha"), self.all_of("machine")
        notes = [f"runs of {len(commits)} commits of this code"] if len(commits) > 1 else []
        notes += [f"runs on {len(machines)} machines"] if len(machines) > 1 else []
        notes += ["files differed from the commit"] if any(commit.endswith("-dirty") for commit in commits) else []
        notes += [f"seed {seed} ran {seeds.count(seed)} times" for seed in sorted(set(seeds)) if seeds.count(seed) > 1]
        return notes


@dataclass(frozen=True)
class Group:
    """Networks that one recipe trained on the same images; `title` tells it from other groups."""

    title: str
    lines: list[Line]
    recipe: Record

    def all_of(self, key: str) -> list[str]:
        return list(dict.fromkeys(value for line in self.lines for value in line.all_of(key)))

    @property
    def facts(self) -> str:
        """A sentence: how many runs on what data, where, and of which code."""
        seeds = sorted({run.record["config"]["seed"] for line in self.lines for run in line.runs})
        runs = sum(line.row.n for line in self.lines)
        commits = [commit.removesuffix("-dirty")[:SHORT] for commit in self.all_of("git_sha")]
        code = ("commit " if len(set(commits)) == 1 else "commits ") + ", ".join(dict.fromkeys(commits))
        return (
            f"{_counted(runs, 'run')} of {_counted(len(self.lines), 'network')}, "
            f"{_counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))}). "
            f"Machine: {', '.join(self.all_of('machine'))}. Code: {code}."
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def groups(found: Found) -> list[Group]:
    """The largest first."""
    same: dict[str, list[Run]] = defaultdict(list)
    for run in found.runs:
        same[json.dumps([run.record["data"], _recipe(run.record)], sort_keys=True)].append(run)
    ordered = sorted(same.values(), key=len, reverse=True)
    recipes = [_recipe(runs[0].record) for runs in ordered]
    titles = _titles([_head(runs[0].record) for runs in ordered], recipes)
    return [
        Group(title, _lines(runs, found.speeds), recipe)
        for title, runs, recipe in zip(titles, ordered, recipes, strict=True)
    ]


def _recipe(record: Record) -> Record:
    """What decides the numbers of a run, but for its network and the loss of its gates.

    The record of an older version may lack keys that came later; so zero and false count as a key that is not there.
    """
    settings = identifying(record["config"])
    return {key: value for key, value in settings.items() if value and not key.startswith(OF_NETWORKS)}


def _head(record: Record) -> str:
    data = record["config"]["data"]
    return f"{record['data']}, {data['input_size']} px, {_counted(record['epochs'], 'epoch')}"


def _titles(heads: Sequence[str], recipes: Sequence[Record]) -> list[str]:
    """The heads, where several are the same with what differs between their recipes."""
    return [", ".join([head, *words]) for head, words in zip(heads, set_apart(heads, recipes), strict=True)]


def _lines(runs: Sequence[Run], speeds: dict[str, Record]) -> list[Line]:
    of_recipe: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.record["config"]["seed"]):
        of_recipe[recipe_key(run.record)].append(run)
    found = rows([run.record for run in runs])
    plain = {_but_for_layers(of_recipe[row.recipe]): row for row in found if _is_plain(of_recipe[row.recipe])}
    lines = []
    for row in found:
        own = of_recipe[row.recipe]
        baseline = None if _is_plain(own) else plain.get(_but_for_layers(own))
        difference = baseline and paired_difference(_records(own), _records(of_recipe[baseline.recipe]))
        lines.append(Line(row, own, speeds.get(row.recipe, {}), baseline, difference))
    return lines


def _is_plain(runs: Sequence[Run]) -> bool:
    return runs[0].record["layer"] == "conv"


def _but_for_layers(runs: Sequence[Run]) -> str:
    recipe = but_for_layers(runs[0].record)
    return json.dumps({key: value for key, value in recipe.items() if value and key != "seed"}, sort_keys=True)


def _records(runs: Sequence[Run]) -> list[Record]:
    return [run.record for run in runs]

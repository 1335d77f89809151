"""Published rows beside ours: what each comparison comes to, and all of them on every core."""

import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import ROUND_UP, Context
from itertools import repeat
from typing import Any

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from conf import schema
from conf.launch import FOLDER
from scripts.published.needs import Needs, needs
from scripts.published.our_accuracies import measured
from scripts.published.our_counts import counted
from scripts.published.rows import NOT_RUN, RANKS, Row


@dataclass(frozen=True)
class Comparison:
    """A published row, our figure (None where there is none) and what came of it: one of RANKS or NOT_RUN.

    `needs`: what a run of its recipe needs, where it is not run and has one.
    """

    row: Row
    ours: float | None
    outcome: str
    message: str = ""  # why the network could not be built
    needs: Needs | None = None

    @property
    def is_worse(self) -> bool:
        """Worse than what is recorded; a run's scatter is no mistake of ours, so accuracies never are."""
        return not self.row.is_measured and RANKS.index(self.outcome) > RANKS.index(self.row.recorded)

    @property
    def status(self) -> str:
        """exact, within x %, differs (why), not built (why) or not run: needs what, or no recipe."""
        match self.outcome:
            case "within":
                return f"within {_rounded_up(self.deviation)} %"
            case "differs":
                return f"differs ({self.row.reason or f'by {self.deviation:.2g} %'})"
            case "not built":
                return f"not built ({self.message})"
            case "not run":
                return f"not run: {f'needs {self.needs.in_short}' if self.needs else 'no recipe'}"
        return self.outcome

    @property
    def deviation(self) -> float:
        """Per cent of the published value."""
        assert self.ours is not None
        return 100 * abs(self.ours - self.row.figure.value) / abs(self.row.figure.value)


def _rounded_up(per_cent: float) -> str:
    """To two digits, and never less than it is: 1.9 for 1.84."""
    return f"{Context(prec=2, rounding=ROUND_UP).create_decimal_from_float(per_cent):f}"


def compare_all(rows: list[Row], runs: list[dict[str, Any]]) -> list[Comparison]:
    """Every row compared, in their order; the rows of one network together, on every core."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.network].append(place)
    done: list[Comparison | None] = [None] * len(rows)
    with ProcessPoolExecutor(min(len(places), os.cpu_count() or 1), initializer=_start_worker) as pool:
        groups = pool.map(_compare_group, ([rows[place] for place in group] for group in places.values()), repeat(runs))
        for group, comparisons in zip(places.values(), groups, strict=True):
            for place, comparison in zip(group, comparisons, strict=True):
                done[place] = comparison
    return [comparison for comparison in done if comparison]


def _start_worker() -> None:
    torch.set_num_threads(1)
    schema.register()
    GlobalHydra.instance().clear()
    initialize_config_dir(str(FOLDER), version_base=None)


def _compare_group(rows: list[Row], runs: list[dict[str, Any]]) -> list[Comparison]:
    return [compare(row, runs) for row in rows]


def compare(row: Row, runs: list[dict[str, Any]]) -> Comparison:
    """Count or look up `row`; what cannot be built is an outcome, so that the other rows are still compared."""
    try:
        ours = measured(row, runs) if row.is_measured else counted(row)
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        return Comparison(row, None, "not built", str(error).splitlines()[0])
    if ours is None:
        return Comparison(row, None, NOT_RUN, needs=needs(row))
    return Comparison(row, ours, outcome(row, ours))


def outcome(row: Row, ours: float) -> str:
    """`exact` where ours rounds to the printed digits, `within` the row's tolerance, or `differs`."""
    difference = abs(ours - row.figure.value)
    if difference <= row.figure.half_unit * (1 + 1e-9):
        return "exact"
    return "within" if difference <= row.tolerance / 100 * abs(row.figure.value) else "differs"

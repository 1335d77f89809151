"""Published figures: read from results/published/*.yaml, one file a paper, and compared to their printed digits.

A file has `paper`, `source`, `convention` (what its figures count) and `tables`; a table has `table`, `rows` and may
have its own `source` and `experiment`. A row has

    row         its name in the table
    network     what makes the network, as overrides of scripts/complexity.py
    published   quantity: figure, as the paper prints it
    counted     quantity: figure, counted by hand from the paper's layer table: no figure of the paper
    input_size, num_classes   where they are not the backbone's own
    against     the network that a ratio compares with
    conv        [in, out, kernel]: the figures are of one layer of that shape, biases included
    experiment  the recipe of its accuracies, in conf/experiment

and a figure is its digits with their unit (1.25 M, 22.2 %, 4.5x, 2.61E7), or a mapping: `printed`, and `within: 2`
where ours is known to lie within 2 % (and may say `why`) or `differs: reason` where it cannot be met, and `times: 0.64`
where it is that part of ours. Without either our figure rounds to the printed one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "results" / "published"
COMPLEXITY = ("params", "params_without_norm", "macs", "ratio")
ACCURACY = ("top1", "top5", "top1_error", "top5_error", "macs_effective", "reduction")
COUNTED = "counted from the layer table"
NOT_RUN = "not run"
RANKS = ("exact", "within", "differs", "not built")  # the best first
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "%": 1, "x": 1}
RUN_TOLERANCE = 1.0  # per cent, of what is measured in a run


@dataclass(frozen=True)
class Figure:
    """One number as it is printed: its value, and half a unit of its last digit."""

    printed: str
    value: float
    half_unit: float

    @classmethod
    def parse(cls, printed: str) -> "Figure":
        """ValueError where `printed` is not digits, an optional exponent and an optional unit."""
        match = re.fullmatch(r"(-?\d+)(?:\.(\d+))?(?:E(\d+))?\s?([kMGx%]?)", printed)
        if not match:
            raise ValueError(f"{printed!r} is no figure; write it as 1248424, 1.25 M, 22.2 %, 4.5x or 2.61E7")
        whole, decimals, exponent, unit = match.groups(default="")
        scale = UNITS[unit] * 10 ** int(exponent or 0)
        text = f"{int(whole):,}" if printed == whole else printed
        return cls(text, float(f"{whole}.{decimals or 0}") * scale, 0.5 * scale / 10 ** len(decimals))


@dataclass(frozen=True)
class Row:
    """One figure, printed in a paper or counted from its layer table; what it is compared with; its known status."""

    paper: str
    table: str
    row: str
    quantity: str
    is_counted: bool  # from the layer table; else printed in the paper
    figure: Figure
    source: str
    convention: str
    network: tuple[str, ...]
    against: tuple[str, ...]
    conv: tuple[int, ...]
    input: dict[str, int]
    experiment: str | None
    times: float
    tolerance: float  # per cent
    recorded: str  # one of RANKS, or NOT_RUN
    reason: str

    @property
    def is_measured(self) -> bool:
        """Known only from a run."""
        return self.quantity in ACCURACY


def read(paper: str | None = None, folder: Path = FOLDER) -> list[Row]:
    """The rows of every file of `folder`, or of `paper` alone; ValueError where a file or a key is unknown."""
    files = sorted(folder.glob(f"{paper or '*'}.yaml"))
    if not files:
        raise ValueError(f"paper={paper}: there are {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}")
    return [row for path in files for row in _rows(path)]


def _rows(path: Path) -> Iterator[Row]:
    content = yaml.load(path.read_text(), yaml.BaseLoader)  # BaseLoader: digits stay as they are printed
    _known(path, content, {"paper", "source", "convention", "tables"})
    for table in content["tables"]:
        _known(path, table, {"table", "source", "experiment", "rows"})
        for row in table["rows"]:
            optional = {"published", "counted", "input_size", "num_classes", "against", "conv", "experiment", "source"}
            _known(path, row, {"row", "network"} | optional)
            shared = {"source": content["source"]} | {k: v for k, v in table.items() if k != "rows"} | row
            for kind in ("published", "counted"):
                for quantity, figure in row.get(kind, {}).items():
                    yield _row(content, shared, quantity, figure, kind)


def _row(
    content: dict[str, Any], shared: dict[str, Any], quantity: str, figure: str | dict[str, str], kind: str
) -> Row:
    known = {"printed": figure} if isinstance(figure, str) else figure
    place = f"{content['paper']}, {shared['row']}, {quantity}"
    if quantity not in COMPLEXITY + ACCURACY:
        raise ValueError(f"{place}: no such quantity; there are {', '.join(COMPLEXITY + ACCURACY)}")
    _known(place, known, {"printed", "within", "differs", "times", "why"})
    measured = quantity in ACCURACY
    if measured and kind == "counted":
        raise ValueError(f"{place}: an accuracy cannot be counted; write it under published")
    recorded = NOT_RUN if measured else next((rank for rank in ("within", "differs") if rank in known), "exact")
    return Row(
        content["paper"],
        shared["table"],
        shared["row"],
        quantity,
        kind == "counted",
        Figure.parse(known["printed"]),
        COUNTED if kind == "counted" else shared["source"],
        content["convention"],
        tuple(shared["network"].split()),
        tuple(shared.get("against", "").split()),
        tuple(map(int, shared.get("conv", ()))),
        {key: int(shared[key]) for key in ("input_size", "num_classes") if key in shared},
        shared.get("experiment"),
        float(known.get("times", 1)),
        float(known.get("within", RUN_TOLERANCE if measured else 0)),
        recorded,
        known.get("differs", known.get("why", "")),
    )


def _known(place: object, keys: dict[str, Any], known: set[str]) -> None:
    if unknown := set(keys) - known:
        raise ValueError(f"{place}: no such key {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")

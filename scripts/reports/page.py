"""A report as one HTML page that needs nothing beside it: no network, no other file."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from models.run_directory import GATE_MAPS
from scripts.reports.columns import LEGEND, filled
from scripts.reports.curves import SHOWN, mean_curves
from scripts.reports.found import Found
from scripts.reports.groups import Group, Line
from scripts.reports.published import published
from sweeps.short_names import short_names
from sweeps.table import front

TEMPLATES = Path(__file__).parent / "page"
AXES = {
    "macs_needed": "multiply-adds (MACs) an image, closed gates skipped",
    "macs": "multiply-adds (MACs) an image, all of them",
    "params": "parameters",
    "eager_ms": "measured time for an image as trained, ms",
    "deployed_ms": "measured time for an image deployed, ms",
}


def as_html(groups: Sequence[Group], found: Found) -> str:
    """The page: for each group a plot, a table, curves and gates; the published figures; and what was left out."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    preface, tables = published()
    return environment.get_template("page.html").render(
        groups=[_section(group) for group in groups],
        left_out=found.left_out,
        legend=LEGEND.replace("+/-", "±"),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        runs=len(found.runs),
        plotly=get_plotlyjs(),
        preface=preface,
        published=tables,
    )


def _section(group: Group) -> dict[str, Any]:
    """What the page shows of `group`; `plots` is what its scripts draw."""
    plots = _plots(group.lines)
    return {
        "title": group.title,
        "facts": group.facts,
        "speed": _measured_on(group.lines),
        "columns": filled(group.lines),
        "lines": group.lines,
        "recipe": group.recipe,
        "curves": {
            metric: title for metric, title in SHOWN.items() if any(metric in line["curves"] for line in plots["lines"])
        },
        "has_gates": any(line.gates for line in group.lines),
        "maps": [(line, picture) for line in group.lines if line.gates and (picture := _gate_maps(line))],
        "plots": plots,
    }


def _plots(lines: Sequence[Line]) -> dict[str, Any]:
    points = {axis: [_cost(line, axis) for line in lines] for axis in AXES}
    axes = [
        {"key": axis, "title": AXES[axis], "front": _front(lines, costs)}
        for axis, costs in points.items()
        if any(cost is not None for cost in costs)
    ]
    _, labels = short_names([line.first for line in lines], [line.row for line in lines])
    return {
        "axes": axes,
        "lines": [
            {
                "name": line.row.name,
                "label": label,
                "top1": line.row.top1,
                "std": line.row.top1_std,
                "n": line.row.n,
                "plain": line.is_plain,
                "costs": {axis: costs[place] for axis, costs in points.items()},
                "gates": line.gates,
                "curves": mean_curves([run.path.parent for run in line.runs]),
            }
            for place, (line, label) in enumerate(zip(lines, labels, strict=True))
        ],
    }


def _cost(line: Line, axis: str) -> float | None:
    return line.speed.get(axis) if axis.endswith("_ms") else getattr(line.row, axis)


def _front(lines: Sequence[Line], costs: Sequence[float | None]) -> list[bool]:
    """Of each line: whether no other is as accurate at less of this cost; what has no cost is on no front."""
    points = [(cost, line.row.top1) for line, cost in zip(lines, costs, strict=True) if cost is not None]
    kept = iter(front(points))
    return [cost is not None and next(kept) for cost in costs]


def _measured_on(lines: Sequence[Line]) -> str:
    """The machines on which speeds were measured, in words; an empty text where none were."""
    machines = [line.speed["machine"] for line in lines if line.speed]
    texts = [
        ", ".join(f"{key} {value}" for key, value in machine.items()) if isinstance(machine, dict) else str(machine)
        for machine in machines
    ]
    return "; ".join(dict.fromkeys(texts))


def _gate_maps(line: Line) -> str:
    """The picture of the first run that has one, as an address that holds it whole; an empty text where none has."""
    pictures = [run.path.parent / GATE_MAPS for run in line.runs]
    found = next((picture for picture in pictures if picture.is_file()), None)
    return f"data:image/png;base64,{b64encode(found.read_bytes()).decode()}" if found else ""

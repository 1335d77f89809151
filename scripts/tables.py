"""Published figures beside ours: python scripts/tables.py (format=json, markdown or html)."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import json

from omegaconf import DictConfig

from conf.launch import launch
from models.columns import columns, markdown_line
from scripts.published.rows import NOT_RUN, RANKS, read

if TYPE_CHECKING:
    from scripts.published.comparison import Comparison

COLUMNS = ("row", "quantity", "printed", "counted", "ours", "status")
LEGEND = (
    "printed: a figure of the paper, exact where ours rounds to its digits; counted: no figure of the paper, but "
    "counted by hand from its layer table. One multiply-add is one MAC, of convolutions and linear layers; parameters "
    "include biases and normalisation unless the quantity says otherwise."
)
NOT_RUN_LEGEND = (
    "not run: what one run of the recipe needs. GPU hours are epochs x training images / images a second; these are "
    "measured in bf16-mixed on one {device}, the recipe's own network and batch, on images that are there already. "
    "~: those of another network of the same recipe, in proportion to the MACs; roughly: of any other network on "
    "images of about this size, but no faster for fewer MACs, so only the order of magnitude is to be relied on."
)
NEEDS = ("command", "data", "images x epochs", "images/s", "GPU hours")


def main(config: DictConfig) -> None:
    """Compare and print; status 1 where a row is worse than recorded."""
    from scripts.published.comparison import compare_all
    from scripts.published.our_accuracies import finished_runs

    done = compare_all(read(config.paper), finished_runs())
    print(FORMATS[config.format.name](done))
    worse = [comparison for comparison in done if comparison.is_worse]
    for comparison in worse:
        row = comparison.row
        print(f"{row.paper}, {row.row}, {row.quantity}: {comparison.status}; recorded: {row.recorded}", file=sys.stderr)
    if worse:
        sys.exit(1)


def as_json(done: "list[Comparison]") -> str:
    return json.dumps([entry(comparison) for comparison in done], indent=1, ensure_ascii=False)


def entry(comparison: "Comparison") -> dict[str, Any]:
    """One row for machines: `published`, or `counted` from the layer table, and `ours` as numbers, the other null.

    `printed` are the digits of what is published, `tolerance` is in per cent.
    """
    row = comparison.row
    value = _number(row.figure.value)
    return {
        "paper": row.paper,
        "table": row.table,
        "row": row.row,
        "quantity": row.quantity,
        "published": None if row.is_counted else value,
        "printed": None if row.is_counted else row.figure.printed,
        "counted": value if row.is_counted else None,
        "ours": None if comparison.ours is None else _number(comparison.ours),
        "tolerance": row.tolerance,
        "status": comparison.status,
        "recorded": row.recorded,
        "reason": row.reason,
        "source": row.source,
        "convention": row.convention,
        "network": " ".join(row.network),
        "experiment": row.experiment,
        "needs": comparison.needs and asdict(comparison.needs) | {"gpu_hours": comparison.needs.gpu_hours},
    }


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def as_table(done: "list[Comparison]") -> str:
    lines = []
    for (paper, table), group in _tables(done):
        comparisons = list(group)
        rows = [COLUMNS, *map(_cells, comparisons)]
        lines += [f"{paper}: {table}", *(f"  {line}" for line in columns(rows, left=len(COLUMNS))), ""]
        if needed := _needed(comparisons):
            lines += [*(f"  {line}" for line in columns([NEEDS, *needed], left=3)), ""]
    return "\n".join([*lines, legend(done), summary(done)])


def as_markdown(done: "list[Comparison]") -> str:
    lines = [
        "# Published figures beside ours",
        "",
        f"What `python scripts/tables.py format=markdown` prints. {legend(done)}",
    ]
    lines += ["", summary(done)]
    for paper, papers in groupby(done, lambda comparison: comparison.row.paper):
        comparisons = list(papers)
        lines += ["", f"## {paper}", "", f"{comparisons[0].row.convention}"]
        for (_, table), group in _tables(comparisons):
            lines += ["", f"### {table}", "", markdown_line((*COLUMNS, "source")), "|---|---|--:|--:|--:|---|---|"]
            comparisons = list(group)
            lines += [markdown_line((*_cells(comparison), comparison.row.source)) for comparison in comparisons]
            if needed := _needed(comparisons):
                lines += ["", f"### {table}: what the runs need", "", markdown_line(NEEDS), "|---|---|--:|--:|--:|"]
                lines += map(markdown_line, needed)
    return "\n".join(lines)


def as_html(done: "list[Comparison]") -> str:
    """One page that needs nothing beside it."""
    style = "body{font-family:sans-serif;max-width:75em;margin:auto}td,th{text-align:left;padding:0 1em 0 0}"
    body = [f"<h1>Published figures beside ours</h1><p>{escape(legend(done))}</p><p>{escape(summary(done))}</p>"]
    for (paper, table), group in _tables(done):
        comparisons = list(group)
        body.append(f"<h2>{escape(paper)}: {escape(table)}</h2><p>{escape(comparisons[0].row.convention)}</p><table>")
        body.append(_html_line("th", (*COLUMNS, "source")))
        body += [_html_line("td", (*_cells(comparison), comparison.row.source)) for comparison in comparisons]
        body.append("</table>")
        if needed := _needed(comparisons):
            body += ["<table>", _html_line("th", NEEDS), *(_html_line("td", cells) for cells in needed), "</table>"]
    head = f'<meta charset="utf-8"><title>Published figures beside ours</title><style>{style}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>" + "\n".join(body) + "</body></html>"


def _html_line(tag: str, cells: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _tables(done: "list[Comparison]") -> "Iterator[tuple[tuple[str, str], Iterator[Comparison]]]":
    yield from groupby(done, lambda comparison: (comparison.row.paper, comparison.row.table))


def _cells(comparison: "Comparison") -> tuple[str, ...]:
    row, ours = comparison.row, comparison.ours
    text = "" if ours is None else f"{ours:,.2f}" if ours < 1000 else f"{ours:,.0f}"
    figures = ("", row.figure.printed) if row.is_counted else (row.figure.printed, "")
    return row.row, row.quantity, *figures, text, comparison.status


def _needed(comparisons: "list[Comparison]") -> list[tuple[str, ...]]:
    """What the rows that are not run need, one line for each recipe."""
    lines = {}
    for needs in (comparison.needs for comparison in comparisons):
        if needs:
            speed = "" if needs.images_per_second is None else f"{needs.images_per_second:,.0f}"
            scaled = f" (from {needs.scaled_from})" if needs.scaled_from else ""
            images = f"{needs.images:,} x {needs.epochs}"
            lines[needs.command] = (needs.command, needs.data, images, speed + scaled, needs.hours)
    return list(lines.values())


def legend(done: "list[Comparison]") -> str:
    devices = {comparison.needs.measured_on for comparison in done if comparison.needs} - {None}
    return " ".join([LEGEND, *(NOT_RUN_LEGEND.format(device=device) for device in devices)])


def summary(done: "list[Comparison]") -> str:
    """How many figures of each kind, printed ones apart from those that only a layer table gives."""
    rows = [(comparison.row.is_measured, comparison.row.is_counted, comparison.outcome) for comparison in done]
    kinds = {
        "printed": [outcome for measured, counted, outcome in rows if not measured and not counted],
        "counted from layer tables": [outcome for _, counted, outcome in rows if counted],
        "of accuracy, printed": [outcome for measured, _, outcome in rows if measured],
    }
    return "; ".join(f"{len(outcomes)} {kind}{_outcomes(outcomes)}" for kind, outcomes in kinds.items())


def _outcomes(outcomes: list[str]) -> str:
    numbers = Counter(outcomes)
    parts = [f"{numbers[outcome]} {outcome}" for outcome in (*RANKS, NOT_RUN) if numbers[outcome]]
    return f" ({', '.join(parts)})" if parts else ""


FORMATS = {"table": as_table, "json": as_json, "markdown": as_markdown, "html": as_html}

if __name__ == "__main__":
    launch(main, "tables")

"""The tables of a report as text: Markdown and LaTeX for a paper, CSV and JSON for machines."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from typing import Any

from models.columns import markdown_line
from scripts.reports.columns import COLUMNS, LEGEND, filled
from scripts.reports.found import Found
from scripts.reports.groups import Group, Line

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def as_markdown(groups: Sequence[Group]) -> str:
    """A table for each group, and under it what its columns mean and what is to be known of its rows."""
    return "\n\n".join(_markdown_table(group, titled=len(groups) > 1) for group in groups)


def _markdown_table(group: Group, *, titled: bool) -> str:
    columns = filled(group.lines)
    lines = [f"### {group.title}", ""] if titled else []
    lines += [
        markdown_line([column.title for column in columns]),
        "|" + "|".join("--:" if column.is_number else "---" for column in columns) + "|",
        *(markdown_line([_plus_minus(column.text(line)) for column in columns]) for line in group.lines),
        "",
        " ".join([_facts(group), _plus_minus(LEGEND), *remarks(group)]),
    ]
    return "\n".join(lines)


def as_latex(groups: Sequence[Group]) -> str:
    r"""A tabular for each group, which needs \usepackage{booktabs}."""
    return "\n\n".join(_latex_table(group) for group in groups)


def _latex_table(group: Group) -> str:
    columns = filled(group.lines)
    rows = [_latex_line([column.text(line) for column in columns]) for line in group.lines]
    comments = [f"% {text}" for text in (_facts(group), LEGEND, *remarks(group))]
    kinds = "".join("r" if column.is_number else "l" for column in columns)
    head = [r"\begin{tabular}{" + kinds + "}", r"\toprule", _latex_line([column.title for column in columns])]
    return "\n".join([*comments, *head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(LATEX).replace("+/-", r"$\pm$") for cell in cells) + r" \\"


def as_csv(groups: Sequence[Group]) -> str:
    """One line for each network of each group, numbers with all of their digits."""
    entries = [entry for group in groups for entry in entries_of(group)]
    text = StringIO()
    writer = csv.DictWriter(text, list(entries[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "; ".join(map(str, value)) if isinstance(value, list) else value for key, value in entry.items()}
        for entry in entries
    )
    return text.getvalue().rstrip("\n")


def as_json(groups: Sequence[Group], found: Found) -> str:
    tables = [{"title": group.title, "recipe": group.recipe, "rows": entries_of(group)} for group in groups]
    left_out = {str(path): reason for path, reason in found.left_out.items()}
    return json.dumps({"groups": tables, "left_out": left_out}, indent=1)


def entries_of(group: Group) -> list[dict[str, Any]]:
    """Each network of `group` for machines; a key that does not apply is None."""
    return [_entry(group, line) for line in group.lines]


def _entry(group: Group, line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {"group": group.title}
    for column in COLUMNS:
        values[column.key] = column.value(line)
        if column.std:
            values[f"{column.key}_std"] = column.std(line)
    return values | {
        "difference_n": line.difference.n if line.difference else None,
        "on_front": line.row.on_front,
        "seeds": [run.record["config"]["seed"] for run in line.runs],
        "commits": line.all_of("git_sha"),
        "machines": line.all_of("machine"),
        "commands": line.all_of("command"),
        "files": [str(run.path) for run in line.runs],
        "notes": line.notes,
    }


def remarks(group: Group) -> list[str]:
    """What is to be known of some rows, a sentence for those of which the same is."""
    rows: dict[str, list[str]] = {}
    for line in group.lines:
        if line.notes:
            rows.setdefault("; ".join(line.notes), []).append(line.row.name)
    return [f"{', '.join(names)}: {notes}." for notes, names in rows.items()]


def _facts(group: Group) -> str:
    return f"Trained on {group.title}: {group.facts}"


def _plus_minus(text: str) -> str:
    return text.replace("+/-", "±")

"""Published figures beside ours, as results/tables.md keeps them: counting every network again takes minutes."""

import re
from dataclasses import dataclass, field
from pathlib import Path

TABLES = Path(__file__).parents[2] / "results" / "tables.md"


@dataclass
class Published:
    """One table: its paper and title, `heading` and `rows` of cells."""

    paper: str
    title: str
    heading: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def published(path: Path = TABLES) -> tuple[list[str], list[Published]]:
    """The paragraphs above the first table, and the tables."""
    preface: list[str] = []
    tables: list[Published] = []
    paper = ""
    for line in path.read_text().splitlines():
        if line.startswith("### "):
            tables.append(Published(paper, line.removeprefix("### ")))
        elif line.startswith("## "):
            paper = line.removeprefix("## ")
        elif line.startswith("| ") and tables:
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if tables[-1].heading:
                tables[-1].rows.append(cells)
            else:
                tables[-1].heading = cells
        elif line and not paper and not line.startswith("#"):
            preface.append(line.replace("`", ""))
    return preface, tables

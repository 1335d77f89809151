"""What finished runs reached and cost, as a page or as a table: python scripts/report.py out=report.html."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import logging

from omegaconf import DictConfig

from conf.launch import launch
from conf.schema import ReportFormat
from models.run_directory import file_to_write, write_whole
from scripts.reports.embedded import embedded
from scripts.reports.found import Found, find
from scripts.reports.groups import Group, groups
from scripts.reports.text import as_csv, as_json, as_latex, as_markdown

log = logging.getLogger(__name__)


def main(config: DictConfig) -> None:
    """Read the results in `config.folders`, and write them as `config.format` says."""
    out = file_to_write(config.out) if config.out else None
    found = find([Path(folder) for folder in config.folders])
    if not found.runs:
        raise ValueError(f"folders=[{','.join(config.folders)}]: no finished run in there; name folders that have some")
    made = groups(found)
    if config.format == ReportFormat.png:
        if out is None:
            raise ValueError("format=png needs a file: out=picture.png")
        _draw(made[0], made[1:], out)
    elif out is None:
        print(_text(config.format, made, found))
    else:
        text = _text(config.format, made, found)
        if config.format == ReportFormat.markdown and out.is_file():
            text = embedded(text, out, list(config.folders))
        write_whole(out, text.rstrip("\n") + "\n")
    if out:
        log.info(f"{out}: {len(found.runs)} runs in {len(made)} group{'' if len(made) == 1 else 's'}")


def _text(kind: ReportFormat, made: Sequence[Group], found: Found) -> str:
    match kind:
        case ReportFormat.html:
            # Here, not at the top: the other formats need no templates.
            from scripts.reports.page import as_html

            return as_html(made, found)
        case ReportFormat.json:
            return as_json(made, found)
        case ReportFormat.csv:
            return as_csv(made)
        case ReportFormat.latex:
            return as_latex(made)
    return as_markdown(made)


def _draw(largest: Group, others: Sequence[Group], out: Path) -> None:
    # Here, not at the top: Matplotlib takes a while.
    from callbacks.figures import accuracy_figure

    for other in others:
        log.warning(f"not in the picture, since it cannot be compared with the rest: {other.title}")
    records = [run.record for line in largest.lines for run in line.runs]
    accuracy_figure(records).savefig(out, dpi=120)


if __name__ == "__main__":
    launch(main, "report")

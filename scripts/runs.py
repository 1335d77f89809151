"""The runs of a folder, finished or not: python scripts/runs.py folder=runs."""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import json
import logging

from omegaconf import DictConfig

from conf.launch import launch
from conf.schema import Format
from models.run_directory import run_directories
from sweeps.outcome import Outcome, State, outcome
from sweeps.table import rows, text_table

log = logging.getLogger(__name__)


def main(config: DictConfig) -> None:
    """Print a row for each recipe, its seeds together, and a line for each run that is not finished."""
    folder = Path(config.folder)
    if not folder.is_dir():
        raise ValueError(f"folder={folder}: there is no such folder; give the one that holds the runs' directories")
    found = outcomes(folder)
    results = [each.result for each in found.values() if each.result]
    unfinished = {path: each for path, each in found.items() if each.state is not State.FINISHED}
    if config.format == Format.json:
        states = {str(path): {"state": each.state.value, "text": each.text} for path, each in unfinished.items()}
        print(json.dumps({"rows": [asdict(row) for row in rows(results)], "unfinished": states}, indent=1))
        return
    print(text_table(results))
    for path, each in unfinished.items():
        print(f"{each.state.value}: {path}{each.text and ': '}{each.text}")


def outcomes(folder: Path) -> dict[Path, Outcome]:
    """What has become of each run in `folder` and its subfolders; what is no run's result is named in the log."""
    found = {}
    for directory in run_directories(folder):
        try:
            found[directory] = outcome(directory)
        except ValueError as foreign:
            log.warning(f"left out: {foreign}")
    return found


if __name__ == "__main__":
    launch(main, "runs")

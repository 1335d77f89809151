"""Measure speeds: python scripts/benchmark.py benchmark=train format=json."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

import json

from omegaconf import DictConfig, OmegaConf

from conf import binding
from conf.launch import FOLDER, launch
from conf.schema import Format
from models.columns import column_widths, row_in_columns


def main(config: DictConfig) -> None:
    """Run the chosen benchmark and print one row a comparison, as they are measured."""
    from hydra.utils import instantiate

    if not config.benchmark:
        known = ", ".join(sorted(path.stem for path in (FOLDER / "benchmark").glob("*.yaml")))
        raise ValueError(f"benchmark: nothing is chosen; choose one with benchmark=..., there are: {known}")
    binding.check({"benchmark": OmegaConf.to_container(config.benchmark, resolve=True)})
    rows = instantiate(config.benchmark, _convert_="all")
    as_json = config.format == Format.json
    measured = show(rows, sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(measured, indent=1))


def show(rows: Iterable[dict[str, Any]], out: TextIO) -> list[dict[str, Any]]:
    """Write each row to `out` as soon as it is measured, under the keys of the first one; return all of them."""
    from tqdm import tqdm

    measured, widths = [], []
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        if not widths:
            widths = column_widths([[*row], cells])
            tqdm.write(row_in_columns([*row], widths), out)
        widths = column_widths([[" " * width for width in widths], cells])  # no narrower than before
        tqdm.write(row_in_columns(cells, widths), out)  # above the progress bar, if there is one
        measured.append(row)
    return measured


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    launch(main, "benchmark")

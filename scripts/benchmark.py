"""Measure speed ratios: python scripts/benchmark.py benchmark=train format=json."""

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
    """Write each row to `out` when it comes, under the keys of the first, numbers with four digits; all of them."""
    from tqdm import tqdm

    measured, widths = [], []
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        if not widths:
            widths = [max(map(len, column)) for column in zip(row, cells, strict=True)]
            tqdm.write(_line(row, widths), out)
        tqdm.write(_line(cells, widths), out)  # above the progress bar, if there is one
        measured.append(row)
    return measured


def _line(cells: Iterable[str], widths: list[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    launch(main, "benchmark")

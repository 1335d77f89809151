"""Measure speed ratios: python scripts/benchmark.py benchmark=train format=json."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    if config.format == Format.json:
        print(json.dumps(list(rows), indent=1))
    else:
        show(rows)


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print each row when it comes, under the keys of the first; numbers with four digits."""
    from tqdm import tqdm

    widths: list[int] = []
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        if not widths:
            widths = [max(map(len, column)) for column in zip(row, cells, strict=True)]
            tqdm.write(_line(row, widths))
        tqdm.write(_line(cells, widths))  # to standard output, above the progress bar if there is one


def _line(cells: Iterable[str], widths: list[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    launch(main, "benchmark")

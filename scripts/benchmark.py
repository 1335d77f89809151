"""Measure speed ratios: python scripts/benchmark.py benchmark=train format=json."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import json

from omegaconf import DictConfig, OmegaConf

from conf import binding
from conf.launch import launch
from conf.schema import Format


def main(config: DictConfig) -> None:
    """Run the chosen benchmark and print one row a comparison."""
    from hydra.utils import instantiate

    binding.check({"benchmark": OmegaConf.to_container(config.benchmark, resolve=True)})
    rows = instantiate(config.benchmark, _convert_="all")
    print(json.dumps(rows, indent=1) if config.format == Format.json else table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows under their keys, numbers with four digits."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    launch(main, "benchmark")

"""The recipe of a published accuracy: the command that trains the row's network as its paper did, and what it says."""

import shlex
from functools import cache
from typing import Any

import yaml
from hydra import compose

from conf.launch import FOLDER
from conf.run import plain_config
from scripts.published.rows import Row


def overrides(row: Row) -> tuple[str, ...]:
    """What makes train.py follow the recipe of `row`, which has one: its experiment, its network, its input size."""
    size = [f"data.input_size={row.input['input_size']}"] if "input_size" in row.input else []
    return f"experiment={row.experiment}", *row.network, *size


def command(row: Row) -> str:
    return shlex.join(["python", "train.py", *overrides(row)])


@cache
def recipe(*overrides: str) -> dict[str, Any]:
    """The whole plain configuration that these overrides make of train.py's; Hydra is to be initialised."""
    return plain_config(compose("train", [*overrides, "run_dir=here"]))


@cache
def data_name(recipe: str) -> str:
    """The data set that a recipe, a file of conf/ without its suffix, chooses itself or by the one that it follows."""
    defaults = yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text())["defaults"]
    own = [entry["override /data"] for entry in defaults if "override /data" in entry]
    return own[0] if own else data_name(defaults[0].removeprefix("/"))

"""A network as a folder that anybody can read: its weights as safetensors beside a JSON file that describes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from .memory_format import plain_copy
from .run_directory import WEIGHTS, write_whole

MODEL = "model"  # the folder in a run's directory
DESCRIPTION = "config.json"
LAYOUT = 1  # version of the folder's content
INPUT = {"num_classes": "num_classes", "size": "input_size", "channels": "channels"}  # here, and in a run's `data`
OF_TIMM = "net."  # before each name of the weights of a network in its wrapper for timm (timm_network.py)
KEYS = {"layout", "model", "input", "classes", "preprocessing"}


def write_model(
    folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], data_state: Mapping[str, Any]
) -> None:
    """Write to `folder` the network of a run: its `weights` by name and, from its plain `config`, how to build it.

    `data_state` is what the run's data set says of its images: `classes`, their names in the order of the network's
    outputs, and their `preprocessing` (preprocessing.py). Each file is written whole or not at all; OSError where that
    fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: plain_copy(tensor.cpu()) for name, tensor in weights.items()}
    description = {
        "layout": LAYOUT,
        "model": config["model"],
        "input": {ours: config["data"][theirs] for ours, theirs in INPUT.items()},
        "classes": data_state["classes"],
        "preprocessing": data_state["preprocessing"],
    }
    write_whole(folder / WEIGHTS, safetensors.torch.save(whole, {"format": "pt"}))
    write_whole(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")


def read_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights in `folder` and their description, both as plain data; ValueError where they are anything else.

    What scripts/export.py writes with format=hub, described in timm's words, comes back as if it were in ours.
    """
    weights, description = _weights(folder / WEIGHTS), _json(folder / DESCRIPTION)
    if isinstance(description, dict) and "model_args" in description:
        weights = {name.removeprefix(OF_TIMM): tensor for name, tensor in weights.items()}
        description = _of_timm(description)
    return weights, _checked(description, folder / DESCRIPTION)


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # of its own type, which names no file
        raise ValueError(f"cannot read {path} ({error}); copy it again from the run") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing, which describes {WEIGHTS}; copy it there from the run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path} ({error}); copy it again from the run") from error


def _of_timm(content: Mapping[str, Any]) -> dict[str, Any]:
    """A description of timm's in our words; None for what it lacks."""
    arguments = content["model_args"] if isinstance(content["model_args"], dict) else {}
    return {
        "layout": LAYOUT,
        "model": arguments.get("model"),
        "input": arguments.get("input"),
        "classes": content.get("label_names"),
        "preprocessing": content.get("preprocessing"),
    }


def _checked(content: Any, path: Path) -> dict[str, Any]:
    """`content` of `path`, which is a description; ValueError where it is none."""
    if not isinstance(content, dict) or content.get("layout") != LAYOUT or content.keys() != KEYS:
        raise ValueError(f"{path} is not what this version of the code writes beside {WEIGHTS}")
    if not isinstance(content["model"], dict) or not isinstance(content["input"], dict):
        raise ValueError(f"{path}: model and input must be mappings")
    if content["input"].keys() != INPUT.keys():
        raise ValueError(f"{path}: input must have {', '.join(INPUT)} and nothing else")
    return content

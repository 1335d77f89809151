"""Load the network of a run: from the run's directory back to its weights, its input and its configuration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from .build import Input, build
from .run_directory import CHECKPOINT, CONFIG, PREVIOUS, RESULT, read

LAYOUT = 3  # version of a checkpoint's content; a checkpoint with another number, or none, is of other code
INPUT = ("num_classes", "input_size", "channels")  # what a data set says of a network's input
PREFIX = "net."  # before each name of the network's weights in a checkpoint
KEYWORDS = ("_target_", "_partial_")  # the keys of a configuration's node that are no arguments
# Parts of a network that a configuration may name: they build modules and do nothing else.
OWN_PARTS = re.compile(r"models\.((?:backbones|layers)(?:\.\w+)+|scope)\.([A-Za-z]\w*)")
TORCH_PARTS = re.compile(r"torch\.nn\.([A-Za-z]\w*)")


@dataclass(frozen=True)
class LoadedRun:
    """The network of a run in evaluation mode, on the CPU, what it was built for, and the run's configuration."""

    net: nn.Module
    input: Input
    config: dict[str, Any]


def load_run(run_dir: str | Path) -> LoadedRun:
    """Build the network of the run in `run_dir` and load its weights from the run's last checkpoint.

    The weights are those that the run's test judged: the averaged ones where the run averaged its weights. A run that
    is not finished gives the network as it was at the last checkpoint. Nothing of the configuration is called but this
    package's layers, backbones and scopes and the modules of torch.nn, and the checkpoint is read as plain tensors.
    Raises ValueError where the directory or a file in it is missing, damaged, or not what a run writes, and where a
    run was made by code that built another network.
    """
    directory = Path(run_dir)
    config = _config(directory)
    checkpoint = directory / CHECKPOINT
    if not checkpoint.is_file():
        other = f" ({PREVIOUS} is there: its copy would do)" if (directory / PREVIOUS).is_file() else ""
        raise ValueError(
            f"{directory} has no {CHECKPOINT}, the file of a run's weights; copy it there from the run{other}"
        )
    advice = "load a run that this version of the code trained"
    saved = read_checkpoint(checkpoint, advice)["state_dict"]
    images = Input(*(config["data"][name] for name in INPUT))
    parts = model_parts(config, str(directory))
    try:
        with torch.random.fork_rng([]):  # the weights at the start are random, and replaced
            net = build(**parts, input=images).net
    except TypeError as error:
        raise ValueError(
            f"{directory} holds a network with arguments that this code does not know ({error}); {advice}"
        ) from error
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in saved.items()}
    require_equal_shapes(checkpoint, weights, net.state_dict(), advice)
    net.load_state_dict(weights)
    return LoadedRun(net.eval(), images, config)


def model_parts(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The arguments of `build` that the `model` of a run's plain configuration, read from `source`, describes.

    Raises ValueError where it names anything but parts of a network.
    """
    return _made(config["model"], source)


def read_checkpoint(path: Path, advice: str) -> dict[str, Any]:
    """What a run wrote to `path`, on the CPU; ValueError, which ends with `advice`, where the file is anything else."""
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()  # compares checksums, which torch does not
        if damaged:
            raise BadZipFile(f"{damaged} in it is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # one of a dozen types, and none of their messages names the file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read {path} ({reason}); {advice}") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("layout") != LAYOUT:
        raise ValueError(f"{path} was not written by this version of the code; {advice}")
    return checkpoint


def require_equal_shapes(path: Path, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], advice: str) -> None:
    """Raise ValueError where the weights `theirs`, read from `path`, are not named and shaped as `ours` are."""
    there, here = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (theirs, ours))
    if there != here:
        name = next(name for name in [*here, *there] if here.get(name) != there.get(name))
        raise ValueError(
            f"{path} holds another network: {name} is {there.get(name, 'missing')} there and "
            f"{here.get(name, 'missing')} here; {advice}"
        )


def _config(directory: Path) -> dict[str, Any]:
    """The configuration of the run in `directory`, from its result or, before there is one, from its own file."""
    if not directory.is_dir():
        raise ValueError(f"there is no folder {directory}; give the directory of a run")
    result = read(directory / RESULT)
    config = result["config"] if result else read(directory / CONFIG)
    if config is None:
        raise ValueError(f"{directory} has neither {RESULT} nor {CONFIG}; give the directory of a run")
    model, data = config.get("model"), config.get("data")
    if not isinstance(model, dict) or not isinstance(data, dict) or not all(name in data for name in INPUT):
        raise ValueError(f"{directory / (RESULT if result else CONFIG)} is not what a run writes")
    return config


def _made(node: Any, source: str) -> Any:
    """`node` with each mapping that has a `_target_` replaced by what the target makes, or by a partial of it."""
    if isinstance(node, list):
        return [_made(each, source) for each in node]
    if not isinstance(node, dict):
        return node
    arguments = {name: _made(value, source) for name, value in node.items() if name not in KEYWORDS}
    if "_target_" not in node:
        return arguments
    target = _part(str(node["_target_"]), source)
    return partial(target, **arguments) if node.get("_partial_") is True else target(**arguments)


def _part(target: str, source: str) -> Any:
    """The class or function of a network's part that `target` names; recorded names begin with models."""
    if match := TORCH_PARTS.fullmatch(target):
        found = getattr(nn, match[1], None)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    if match := OWN_PARTS.fullmatch(target):
        name = f"{__package__}.{match[1]}"
        try:
            found = getattr(import_module(name), match[2], None)
        except ModuleNotFoundError:
            found = None
        if callable(found) and found.__module__ == name:
            return found
    raise ValueError(
        f"{source} names _target_: {target}, which is no layer, backbone or scope of this code and no module of "
        "torch.nn, so that it is not called"
    )

"""Load the network of a run: back to its weights, its input and its configuration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from .build import Input, build
from .errors import first_line
from .model_folder import DESCRIPTION, MODEL, read_model
from .preprocessing import Preprocessing, preprocessing_of
from .run_directory import CHECKPOINT, CONFIG, PREVIOUS, RESULT, WEIGHTS, is_model_folder, read

LAYOUT = 3  # version of a checkpoint's content; a checkpoint with another number, or none, is of other code
INPUT = ("num_classes", "input_size", "channels")  # what a data set says of a network's input
PREFIX = "net."  # before each name of the network's weights in a checkpoint
ADVICE = "load a run that this version of the code trained"
# The keys of a configuration's node that are no arguments: two of Hydra's, and where training started, for which a
# library would download weights that a run's own replace.
KEYWORDS = ("_target_", "_partial_", "pretrained")
# Parts of a network that a configuration may name: they build modules and do nothing else.
OWN_PARTS = re.compile(r"models\.((?:backbones|layers)(?:\.\w+)+|scope)\.([A-Za-z]\w*)")
TORCH_PARTS = re.compile(r"torch\.nn\.([A-Za-z]\w*)")


@dataclass(frozen=True)
class LoadedRun:
    """A trained network in evaluation mode, on the CPU, and what it takes and answers.

    `input` is what it was built for, `classes` the names of its outputs in their order. `preprocessing` says how an
    image becomes an input; None, and numbers for names, where the run was trained before runs kept that. `config` is
    the run's configuration, or what describes a model folder; its `model` is the same in both.
    """

    net: nn.Module
    input: Input
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    config: dict[str, Any]


def load_run(path: str | Path) -> LoadedRun:
    """Build the network of a run and load its weights; the data set is not needed.

    `path` is the directory of a run, a checkpoint in it, or a model folder: `model` in the directory of a finished run,
    or what scripts/export.py writes with format=hub. Of a directory the last checkpoint is read, of one without a
    checkpoint its model folder.
    The weights are those that the run's test judged: the averaged ones where the run averaged its weights. A run that
    is not finished gives the network as it was at the last checkpoint. Nothing of the configuration is called but this
    package's layers, backbones and scopes and the modules of torch.nn, and weights are read as plain tensors.
    Raises ValueError where something is missing, damaged, or not what a run writes, and where a run was made by code
    that built another network.
    """
    path = Path(path)
    directory = path.parent if path.is_file() else path
    if path.name == WEIGHTS or is_model_folder(directory):
        return _of_model_folder(directory)
    config = _config(directory)
    checkpoint = path if path.is_file() else directory / CHECKPOINT
    if checkpoint.is_file():
        return _of_checkpoint(checkpoint, config)
    if is_model_folder(directory / MODEL):
        return replace(_of_model_folder(directory / MODEL), config=config)
    other = f" ({PREVIOUS} is there: its copy would do)" if (directory / PREVIOUS).is_file() else ""
    raise ValueError(f"{directory} has no {CHECKPOINT}, the file of a run's weights; copy it there from the run{other}")


def _of_checkpoint(checkpoint: Path, config: dict[str, Any]) -> LoadedRun:
    saved = read_checkpoint(checkpoint, ADVICE)
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in saved["state_dict"].items()}
    given = _input([config["data"][name] for name in INPUT], str(checkpoint.parent))
    # Lightning keeps what a data set says under the name of its class.
    state = saved.get(str(config["data"].get("_target_")).rpartition(".")[2]) or {}
    if not isinstance(state, dict):
        raise ValueError(f"{checkpoint} is not what a run writes; {ADVICE}")
    description = {"classes": [str(number) for number in range(given.num_classes)], "preprocessing": None, **state}
    return _loaded(checkpoint, weights, given, description, config)


def _of_model_folder(folder: Path) -> LoadedRun:
    weights, description = read_model(folder)
    given = _input(list(description["input"].values()), str(folder / DESCRIPTION))
    return _loaded(folder / WEIGHTS, weights, given, description, description)


def _loaded(
    path: Path, weights: Mapping[str, Tensor], given: Input, description: Mapping[str, Any], config: dict[str, Any]
) -> LoadedRun:
    """The network that `config` describes with the `weights` from `path`, and what `description` says of its images."""
    source, names, images = str(path.parent), description["classes"], description["preprocessing"]
    if not isinstance(names, list) or len(names) != given.num_classes or not all(type(name) is str for name in names):
        raise ValueError(f"{source}: classes must be {given.num_classes} names")
    preprocessing = images and preprocessing_of(images, given.channels, source)
    net = _network(config, given, source)
    require_equal_shapes(path, weights, net.state_dict(), ADVICE)
    net.load_state_dict(weights)
    return LoadedRun(net.eval(), given, tuple(names), preprocessing, config)


def _network(config: Mapping[str, Any], given: Input, source: str) -> nn.Module:
    """The network of a configuration from `source`, not trained; ValueError where it cannot be built."""
    try:
        parts = model_parts(config, source)
        with torch.random.fork_rng([]):  # the weights at the start are random, and replaced
            return build(**parts, input=given).net
    except TypeError as error:
        raise ValueError(
            f"{source} holds a network with arguments that this code does not know ({error}); {ADVICE}"
        ) from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError) as error:
        # Whatever layers and backbones do with arguments that no run has; RuntimeError has RecursionError among it.
        raise ValueError(f"{source} holds a network that cannot be built ({first_line(error)}); {ADVICE}") from error


def _input(values: list[Any], source: str) -> Input:
    if not all(type(value) is int and 0 < value < 2**16 for value in values):
        raise ValueError(f"{source}: the numbers of classes, pixels and channels must be positive, not {values}")
    return Input(*values)


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
        raise ValueError(f"cannot read {path} ({first_line(error)}); {advice}") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("layout") != LAYOUT:
        raise ValueError(f"{path} was not written by this version of the code; {advice}")
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{path} holds no weights by name; {advice}")
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

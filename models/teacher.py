"""The teacher of a run: a trained network, which has to know the same classes and to see the same images."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .load import INPUT, LoadedRun, load_run

LIKE = (*INPUT, "mean", "std")  # what the data of teacher and student have in common


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, on the CPU; `source` says where it is from, `weights` is their SHA-256."""

    net: nn.Module
    source: str
    weights: str


def load_teacher(source: str | None, data: dict[str, Any]) -> Teacher | None:
    """The network that `load_run` finds at `source`, for a student whose plain configuration of data is `data`.

    None where there is no `source`. Raises ValueError as `load_run`, and where the teacher was trained on other classes
    or images.
    """
    if source is None:
        return None
    if not Path(source).exists():
        raise ValueError(f"teacher={source}: there is no such folder; give the directory of a run, e.g. runs/<name>")
    run = load_run(source)
    recorded = run.config.get("data")  # a model folder has none
    theirs, names = (recorded, ("load", *LIKE)) if recorded else (_images(run), LIKE)
    _require_equal(source, theirs, data, names)
    return Teacher(run.net, source, fingerprint(run.net))


def fingerprint(net: nn.Module) -> str:
    """SHA-256 of names and values of the weights and buffers of `net`, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _images(run: LoadedRun) -> dict[str, Any]:
    """What a model folder says of its network's images and classes, as a configuration of data says it."""
    shown = run.preprocessing
    colours = {"mean": list(shown.mean), "std": list(shown.std)} if shown else {}
    return dict(zip(INPUT, vars(run.input).values(), strict=True)) | colours


def _require_equal(source: str, theirs: dict[str, Any], ours: dict[str, Any], names: Iterable[str]) -> None:
    """ValueError where the values that two data sets have for `names` are not the same."""
    there, here = ({name: _told(data, name) for name in names} for data in (theirs, ours))
    differ = [name for name in there if there[name] != here[name]]
    if differ:
        trained, this = (" ".join(f"data.{name}={told[name]}" for name in differ) for told in (there, here))
        raise ValueError(
            f"teacher={source} was trained with {trained}, and this run has {this}; train on the data of the teacher "
            "(the same data=..., and the values above), or choose a teacher that was trained on these"
        )


def _told(data: dict[str, Any], name: str) -> Any:
    """The value of `name` in a configuration of data; of a function, what it is called; None where there is none."""
    value = data.get(name)
    return value.get("_target_") if isinstance(value, dict) else value

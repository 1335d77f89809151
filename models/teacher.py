"""The teacher of a run: a trained network, which has to know the same classes and to see the same images."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .load import INPUT, load_run

LIKE = (*INPUT, "mean", "std")  # what the data of teacher and student have in common


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, on the CPU; `source` says where it is from, `weights` is their SHA-256."""

    net: nn.Module
    source: str
    weights: str


def load_teacher(source: str | None, data: dict[str, Any]) -> Teacher | None:
    """The network of the run in the directory `source`, for a student whose plain configuration of data is `data`.

    None where there is no `source`. Raises ValueError as `load_run`, and where the teacher was trained on other classes
    or images.
    """
    if source is None:
        return None
    if not Path(source).is_dir():
        raise ValueError(f"teacher={source}: there is no such folder; give the directory of a run, e.g. runs/<name>")
    run = load_run(source)
    _require_equal(source, run.config["data"], data)
    return Teacher(run.net, source, fingerprint(run.net))


def fingerprint(net: nn.Module) -> str:
    """SHA-256 of names and values of the weights and buffers of `net`, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _require_equal(source: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """ValueError where what two data sets say of classes, image size, colours or their own code is not the same."""
    there, here = ({name: _told(data, name) for name in ("load", *LIKE)} for data in (theirs, ours))
    names = [name for name in there if there[name] != here[name]]
    if names:
        trained, this = (" ".join(f"data.{name}={told[name]}" for name in names) for told in (there, here))
        raise ValueError(
            f"teacher={source} was trained with {trained}, and this run has {this}; train on the data of the teacher "
            "(the same data=..., and the values above), or choose a teacher that was trained on these"
        )


def _told(data: dict[str, Any], name: str) -> Any:
    """The value of `name` in a configuration of data; of a function, what it is called; None where there is none."""
    value = data.get(name)
    return value.get("_target_") if isinstance(value, dict) else value

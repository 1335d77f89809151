"""The teacher of a run: a trained network, which has to know the same classes and to see the same images."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from .errors import first_line
from .load import INPUT, LoadedRun, load_run
from .meta import run_on_meta

LIKE = (*INPUT, "mean", "std")  # what the data of teacher and student have in common


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, on the CPU; `source` says where it is from, `weights` is their SHA-256."""

    net: nn.Module
    source: str
    weights: str


def load_teacher(source: str | None, data: dict[str, Any]) -> Teacher | None:
    """The network at `source`, for a student whose plain configuration of data is `data`; None where it is None.

    `source` is what `load_run` takes or, where there is no such file or folder, a network that timm has trained weights
    of, by the name that `timm.create_model` takes; timm finds them, on the disk or on its hub. Raises ValueError as
    `load_run`, where timm has no such network, and where the teacher was trained on other classes or images; OSError
    where its weights cannot be had.
    """
    if source is None:
        return None
    if not Path(source).exists():
        net = _from_timm(source)
        theirs = _images_of_timm(net)
        _require_equal(source, theirs, data, theirs)
        _require_size(source, net, data["channels"], data["input_size"])
        return Teacher(net, source, fingerprint(net))
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


def _from_timm(name: str) -> nn.Module:
    try:
        with torch.random.fork_rng([]):  # the weights at the start are random, and replaced
            return timm.create_model(name, pretrained=True).eval()
    except OSError as error:
        raise OSError(
            f"teacher={name}: its weights cannot be had ({first_line(error).rstrip('.')}); connect this machine "
            "to the hub of timm, or copy them into its cache (HF_HOME)"
        ) from error
    except Exception as error:  # of any type: timm, its libraries, and what a folder's files make of them
        raise ValueError(
            f"teacher={name}: there is no such folder, and timm gives no such trained network "
            f"({first_line(error).rstrip('.')}); give the directory of a run, e.g. runs/<name>, "
            "or one of timm.list_pretrained(), e.g. resnet18.a1_in1k"
        ) from error


def _images_of_timm(net: nn.Module) -> dict[str, Any]:
    """What timm says of the images and classes of `net`, as a configuration of data says it; not of their size."""
    told: Any = net.pretrained_cfg
    colours = {name: list(told[name]) for name in ("mean", "std")}
    return {"num_classes": told["num_classes"], "channels": told["input_size"][0]} | colours


def _require_size(source: str, net: nn.Module, channels: int, size: int) -> None:
    """ValueError where `net` does not take images of (channels, size, size); most networks take any size."""
    try:
        run_on_meta(net, (1, channels, size, size))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"teacher={source} takes no images of data.input_size={size} ({first_line(error).rstrip('.')}); "
            "choose its size, or a teacher that takes this one"
        ) from error


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

"""How a run and its directory are named: <model>-<data>-seed<seed>-<hash>, a function of the configuration alone.

No clock and no process number goes into a name, so that the same command finds its run again, and so do all the
processes of a run and all the jobs of a sweep. What the hash is taken over, conf/identity.py says.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from conf.identity import differences, digest, flatten
from conf.presets import ANY_NETWORK

PARTS = ("backbone", "layer", "scope")


def run_names(plain: dict[str, Any]) -> dict[str, Any]:
    """What the run of a plain configuration is called: model, backbone, layer, scope and data by name, and its seed."""
    return network_names(plain) | {"data": _data_name(plain["data"]), "seed": plain["seed"]}


def directory_name(names: dict[str, Any], plain: dict[str, Any]) -> str:
    """The name of the directory of a run that is called `names` and whose plain configuration is `plain`."""
    return f"{names['model'][:80]}-{names['data']}-seed{names['seed']}-{digest(plain)}"


def network_names(plain: dict[str, Any]) -> dict[str, str]:
    """What the model of a plain configuration is called: its names as model, backbone, layer and scope.

    A preset is called by its name only where it is used as it stands: other parts, and values other than those of the
    parts' own files, become part of the name.
    """
    hydra = HydraConfig.get()
    chosen, config = {group: str(choice) for group, choice in hydra.runtime.choices.items()}, str(hydra.job.config_name)
    backbone, layer, scope = parts = [chosen[f"model/{part}"] for part in PARTS]
    name, usual = chosen["model"], _usual(config, chosen["model"])
    if backbone in ANY_NETWORK:
        backbone = plain["model"]["backbone"]["name"]
    if parts != usual.parts:
        # The reference needs some preset to start from: one that sets no values of its own.
        usual = _usual(
            config, "resnet20", *(f"model/{part}={choice}" for part, choice in zip(PARTS, parts, strict=True))
        )
        name = "_".join([backbone, *([layer] if layer != "conv" else []), *([scope] if scope != "spatial" else [])])
    changed = differences(flatten(plain["model"]), usual.values)
    if chosen["model/backbone"] in ANY_NETWORK:
        changed.pop("backbone.name", None)  # a preset may have set it
    values = "".join(f"_{key}{_word(value)}" for key, (value, _) in changed.items())
    return {"model": name + values, "backbone": backbone, "layer": layer, "scope": scope}


@dataclass(frozen=True)
class _Usual:
    parts: list[str]
    values: dict[str, Any]


@cache
def _usual(config_name: str, preset: str, *parts: str) -> _Usual:
    """A preset, perhaps with other parts, composed without any further override."""
    config = compose(config_name, [f"model={preset}", *parts], return_hydra_config=True)
    choices = config.hydra.runtime.choices
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    return _Usual([str(choices[f"model/{part}"]) for part in PARTS], flatten(model))


def _word(value: Any) -> str:
    """How `value` is written in a name: 26 is 26, [2, 3] is 2-3, 3.0 is 3, None is -null."""
    if value is None:
        return "-null"
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{value:g}" if isinstance(value, float) else str(value)).strip("-")


def _data_name(data: dict[str, Any]) -> str:
    """The name of the choice; for `image_folder`, which may be any images, the name of their folder is added."""
    choice = str(HydraConfig.get().runtime.choices["data"])
    return f"{choice}-{Path(data['root']).name}" if choice == "image_folder" else choice

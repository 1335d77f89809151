"""The presets by name: networks described as in the configuration of a run, without what trains them.

They are the YAML files that `train.py` composes, conf/model in the repository, which an installed package has too. Each
is read here without Hydra, and a test holds both readings against each other.
"""

import re
from pathlib import Path
from typing import Any

import yaml

OWN = Path(__file__).parent / "configurations"
FOLDER = OWN if OWN.is_dir() else Path(__file__).parents[1] / "conf" / "model"
ANY_NETWORK = ("timm", "torchvision")  # these backbones stand for every network of a library: they are no presets
ENTRY = re.compile(r"(?:/model/)?(\w+)(?:@(\w+))?")  # of a list of defaults: a group, and where its content goes


def preset_names() -> list[str]:
    """Of all presets: the files of conf/model, and each backbone as it is, no convolution replaced."""
    backbones = {path.stem for path in (FOLDER / "backbone").glob("*.yaml")} - set(ANY_NETWORK)
    return sorted(backbones | {path.stem for path in FOLDER.glob("*.yaml")})


def preset(name: str) -> dict[str, Any]:
    """What `load.model_parts` makes a network of: `backbone`, `layer`, `scope`, and a budget where there is one."""
    path = FOLDER / f"{name}.yaml"
    if path.is_file():
        return _composed(path)
    parts = {"backbone": name, "layer": "conv", "scope": "spatial"}
    return {group: _of_group(group, choice) for group, choice in parts.items()}


def _of_group(group: str, choice: str) -> dict[str, Any]:
    return _composed(FOLDER / group / f"{choice}.yaml")


def _composed(path: Path) -> dict[str, Any]:
    """The content of a file over that of its defaults."""
    content = yaml.safe_load(path.read_text())
    composed: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):  # a choice of another group, at the key of its name or of its place
            ((where, choice),) = entry.items()
            match = ENTRY.fullmatch(where)
            assert match, f"{path}: {where}"
            group, place = match.groups()
            composed[place or group] = _of_group(group, choice)
        elif entry != "_self_":  # which is the last everywhere; else a file beside this one
            composed = _over(composed, _composed(path.with_name(f"{entry}.yaml")))
    return _over(composed, content)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above`, mapping by mapping."""
    both = {
        key: _over(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both

"""What a configuration that came from elsewhere may name: importing and calling a target runs code."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def require_own_targets(config: dict[str, Any], source: str) -> None:
    """ValueError where `config`, read from `source`, names a `_target_` that no YAML file here names."""
    for target in _targets(config):
        if target not in known_targets():
            raise ValueError(
                f"{source} names _target_: {target}, which no file in conf/ names, so that it is not called; if it is "
                "yours, add a YAML file with it to the group that it belongs to"
            )


@cache
def known_targets() -> frozenset[str]:
    """Every `_target_` of the files in conf/: what this project's own commands can build."""
    files = Path(__file__).parent.rglob("*.yaml")
    return frozenset(name for file in files for name in re.findall(r"_target_: *([\w.]+)", file.read_text()))


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)

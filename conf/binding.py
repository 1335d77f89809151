"""Check a composed configuration against the signatures it is going to call.

Hydra finds a wrong key of a partial only when it is called, and never checks a type: here both are
found before anything is built.
"""

import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

from hydra.utils import get_object
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from conf.launch import near_matches

OWN_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


def check(config: dict[str, Any]) -> None:
    """Bind each node that has a `_target_` to its signature; ValueError names the key, its value and the fix."""
    for path, node in _targets(config, ""):
        target = get_object(node["_target_"])
        _check_node(path, target, {key: value for key, value in node.items() if key not in OWN_KEYS})


def _targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield path, node
    for key, value in node.items():
        yield from _targets(value, f"{path}.{key}" if path else str(key))


def _check_node(path: str, target: Any, arguments: dict[str, Any]) -> None:
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for name, value in arguments.items():
        if name not in parameters and not takes_any:
            known = [known for known in parameters if known != "self"]
            raise ValueError(f"{path}.{name}: {target.__name__} takes no such argument{near_matches(name, known)}")
        # A nested node is built first; what it becomes is not known here.
        if name in hints and not (isinstance(value, dict) and "_target_" in value):
            _check_type(f"{path}.{name}", value, hints[name])


def _check_type(path: str, value: Any, hint: Any) -> None:
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as mismatch:
        raise ValueError(f"{path}={value!r}: {mismatch}") from None

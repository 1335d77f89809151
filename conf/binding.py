"""Check a composed configuration against the signatures it is going to call.

Hydra finds a wrong key of a partial only when it is called, and never checks a type: here both are
found before anything is built, and before anything heavy is imported.
"""

import json
from collections.abc import Iterator
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from typeguard import CollectionCheckStrategy, ForwardRefPolicy, TypeCheckError, check_type

from conf.launch import near_matches
from conf.signature import signature

OWN_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
ONE_EACH = ("model.backbone", "model.layer", "model.scope", "data", "optimizer", "scheduler", "trainer", "benchmark")
ANY_NUMBER = ("callbacks", "logger")
ELSEWHERE = {  # arguments that follow from others
    "trainer.logger": "logger=...",
    "trainer.callbacks": "callbacks=...",
    "trainer.default_root_dir": "run_dir=...",
    "trainer.enable_progress_bar": "~callbacks.progress",
    "trainer.enable_checkpointing": "~callbacks.checkpoint",
    "model.backbone.num_classes": "data.num_classes=...",
    "model.backbone.input_size": "data.input_size=...",
    "model.backbone.in_channels": "data.channels=...",
}
# What a layer takes from the convolution that it replaces.
GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")
ELSEWHERE |= {f"model.layer.{name}": "model/backbone=... or model/scope=..." for name in GEOMETRY}
AT_LEAST = {  # where a library divides by less, or takes it for nothing in silence
    "seed": 0,
    "lr_batch_size": 1,
    "data.batch_size": 1,
    "data.channels": 1,
    "data.crop_padding": 0,
    "data.input_size": 1,
    "data.num_classes": 2,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.gradient_clip_val": 0,
    "trainer.limit_test_batches": 0.001,
    "trainer.log_every_n_steps": 0,
}
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
    NoneType: "null",
}


def check(config: dict[str, Any]) -> None:
    """Bind each node that has a `_target_` to its signature; ValueError names the key, its value and the fix."""
    nodes = dict(_nodes(config, ""))
    for path, node in nodes.items():
        if "_target_" in node:
            _check_node(path, node)
        elif path in ONE_EACH:
            raise ValueError(f"{path}: nothing is chosen; choose one with {path.replace('.', '/')}=...")
    for group in ANY_NUMBER:
        members = config.get(group, {})
        known = [name for name, node in members.items() if "_target_" in nodes.get(f"{group}.{name}", {})]
        for name in members:
            if name not in known:
                raise ValueError(f"{group}.{name}: no such key{near_matches(name, known)}")
    if config.get("run_dir") == "":
        raise ValueError("run_dir needs a value: run_dir=..., or null for one named after the run")
    model = config.get("model") or {}
    if None not in (model.get("budget_ms"), model.get("budget_macs")):
        raise ValueError(
            f"model.budget_ms={model['budget_ms']:g} and model.budget_macs={model['budget_macs']:g}: give one of them"
        )
    for key, least in AT_LEAST.items():
        group, _, name = key.rpartition(".")
        value = (nodes.get(group) or {}).get(name)
        if isinstance(value, (int, float)) and value < least:
            raise ValueError(f"{key}={value}: must be at least {least}")


def _nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}" if path else str(key))


def _check_node(path: str, node: dict[str, Any]) -> None:
    target = str(node["_target_"])
    try:
        parameters = signature(target).parameters
    except ValueError as absent:
        raise ValueError(f"{path}._target_={absent}") from None
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    if node.get("_partial_"):  # what has a place but no default is given when it is called
        parameters = {name: p for name, p in parameters.items() if p.kind is Parameter.KEYWORD_ONLY or _has_default(p)}
    for name, value in node.items():
        where = f"{path}.{name}"
        if where in ELSEWHERE:
            raise ValueError(f"{where}: set {ELSEWHERE[where]} instead")
        if name in parameters:
            _check_value(where, value, parameters[name].annotation)
        elif name not in OWN_KEYS and not takes_any:
            known = [name for name in parameters if f"{path}.{name}" not in ELSEWHERE]
            raise ValueError(f"{where}: {target.rpartition('.')[2]} takes no such argument{near_matches(name, known)}")
    for name, parameter in parameters.items():
        if parameter.kind is Parameter.KEYWORD_ONLY and not _has_default(parameter) and name not in node:
            raise ValueError(f"{path}.{name} needs a value: {path}.{name}=...")


def _has_default(parameter: Parameter) -> bool:
    return parameter.default is not Parameter.empty


def _check_value(path: str, value: Any, hint: Any) -> None:
    # A nested node is built first; what it becomes is not known here.
    if _fits(value, hint) or (isinstance(value, dict) and "_target_" in value):
        return
    shown = (value or "''") if isinstance(value, str) else json.dumps(value)
    choices = [str(choice) for member in _members(hint) if get_origin(member) is Literal for choice in get_args(member)]
    if len(choices) > 1 and isinstance(value, str):
        raise ValueError(f"{path}={shown}: no such choice{near_matches(value, choices)}")
    raise ValueError(f"{path}={shown}: must be {_described(hint) or 'null'}")


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(value, bool):  # for Python a whole number, for users not
        hint = Union[*(member for member in _members(hint) if member not in (int, float)), None]
    ignore, every = ForwardRefPolicy.IGNORE, CollectionCheckStrategy.ALL_ITEMS
    try:
        check_type(value, hint, forward_ref_policy=ignore, collection_check_strategy=every)
    except TypeCheckError:
        return isinstance(value, list) and _fits(_as_tuple(value), hint)
    return True


def _as_tuple(value: Any) -> Any:
    """YAML has lists where Python tells tuples from lists."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _members(hint: Any) -> list[Any]:
    """Those of a union, or the one type."""
    if get_origin(hint) in (Union, UnionType):
        return [each for member in get_args(hint) for each in _members(member)]
    return [hint]


def _described(hint: Any) -> str:
    """`a number or null`: what of `hint` can be written in a command, whatever order the union has.

    `typing` gives an Optional[...] of equal types the order of the one that the process made first.
    """
    described = dict.fromkeys(text for member in _members(hint) if (text := _described_member(member)))
    order = list(WORDS.values())
    return " or ".join(sorted(described, key=lambda text: order.index(text) if text in order else -1))


def _described_member(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if isinstance(get_origin(hint), type):
        inner = [text for argument in get_args(hint) if argument is not ... and (text := _described(argument))]
        kind = "a mapping" if issubclass(get_origin(hint), dict) else "a list"
        return f"{kind} ({', '.join(inner)})" if inner else kind
    return WORDS.get(hint, "")

"""What identifies a run: the part of its configuration that decides its numbers, and nothing else.

conf/README.md has the table. Two commands with the same identity are one run; it resumes in one directory,
wherever its data lie, whatever it logs, shows or keeps on the way.
"""

import hashlib
import json
from os.path import normpath
from pathlib import Path
from typing import Any

# Where things are, how many processes read them, what is logged, shown or kept: no number depends on these. And how
# many processes train: a cluster gives other ones at each start, and a run goes on with what there is.
NOT_PART = {
    "run_dir",
    "stop_signals",
    "dry",
    "logger",
    "callbacks.progress",
    "callbacks.data_wait",
    "callbacks.checkpoint",
    "callbacks.pruning",
    "data.root",
    "data.num_workers",
    "data.bad_share",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "trainer.enable_model_summary",
    "trainer.profiler",
}
FILES = "data.image_data.ImageData"  # its images are files: its folder, not its code, says which ones


def identifying(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a plain `config` that identifies its run, as {dotted key: value}; a null is as good as no key."""
    leaves = {key: value for key, value in flatten(config).items() if not _is_left_out(key)}
    if "teacher" in leaves:
        leaves["teacher"] = normpath(leaves["teacher"])
    else:  # how a network learns from a teacher changes nothing where there is none
        leaves = {key: value for key, value in leaves.items() if not key.startswith("distillation.")}
    if "model.budget_ms" in leaves:  # it decides, and what it came to is measured once for each run
        leaves.pop("model.budget_macs", None)
    data = config.get("data") or {}
    if data.get("_target_") == FILES:
        leaves["data.folder"] = Path(data["root"]).name
    return leaves


def digest(config: dict[str, Any]) -> str:
    """Eight hexadecimal digits for the identity of `config`."""
    return hashlib.sha256(json.dumps(identifying(config), sort_keys=True).encode()).hexdigest()[:8]


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By dotted key, the values of two {dotted key: value} that are not equal; None where one has no such key."""
    return {
        key: (one.get(key), other.get(key))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    }


def flatten(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by dotted key, without nulls; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        dotted = f"{path}{key}"
        if isinstance(value, dict):
            leaves |= flatten(value, f"{dotted}.")
        elif value is not None:
            leaves[dotted] = value
    return leaves


def _is_left_out(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:depth]) in NOT_PART for depth in range(1, len(parts) + 1))

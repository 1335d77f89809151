"""The results of runs that lie in some folders, and what in these is none."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.run_directory import CONFIG, RESULT

log = logging.getLogger(__name__)
Record = dict[str, Any]
SPEED = "speed.json"  # what scripts/benchmark.py benchmark=study measured

NUMBER = (int, float)
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model", "layer", "data"), (str,)),
    **dict.fromkeys(("epochs", "params", "macs", "baseline_macs"), (int,)),
    "top1": NUMBER,
    "macs_effective": (*NUMBER, type(None)),
    "gate_sparsity": (dict, type(None)),
    "git_sha": (str, type(None)),
    "config": (dict,),
}


@dataclass(frozen=True)
class Run:
    """A finished run: the file with its result, and what that says."""

    path: Path
    record: Record


@dataclass
class Found:
    """The runs in some folders; their measured `speeds` by recipe, `machine` in each; and why a file was left out."""

    runs: list[Run] = field(default_factory=list)
    speeds: dict[str, Record] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)


def find(folders: Sequence[Path]) -> Found:
    """Whatever `folders` and their subfolders hold; a folder may also be a single file.

    The result of a run is result.json in its directory, or a file of any name with the same content. What is no
    result, and a run that was read already, is named in the log. ValueError where a folder is not there.
    """
    found, known = Found(), set()
    for path in dict.fromkeys(path for folder in folders for path in _files(folder)):
        try:
            content = _content(path)
            if path.name == SPEED:
                _add_speeds(found, content)
                continue
            _check(content)
            same = json.dumps(content, sort_keys=True)
            if same in known:
                raise ValueError("the same run is in another file")
        except ValueError as reason:
            log.warning(f"left out: {path}: {reason}")
            found.left_out[path] = str(reason)
        else:
            known.add(same)
            found.runs.append(Run(path, content))
    return found


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    elif not folder.is_dir():
        raise ValueError(f"folders: there is no {folder}; give folders with runs in them, or results of runs")
    for path in sorted(folder.rglob("*.json")):
        is_of_a_run = (path.parent / CONFIG).is_file() or (path.parent / RESULT).is_file()
        if path.name in (RESULT, SPEED) or not is_of_a_run:
            yield path


def _content(path: Path) -> Record:
    """ValueError, and not JSON's own words, where this is no whole file."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"broken or half-written ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("not what a run writes")
    return content


def _check(record: Record) -> None:
    absent = [key for key in KINDS if key not in record]
    if absent:
        raise ValueError(f"not what a run writes: it has no {', '.join(absent)}")
    for key, kinds in KINDS.items():
        value = record[key]
        if not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"not what a run writes: its {key} is {value!r:.40}")
    if not 0 <= record["top1"] <= 100:
        raise ValueError(f"not what a run writes: its top1 is {record['top1']}, which is no per cent")
    config = record["config"]
    if not isinstance(config.get("data"), dict) or not isinstance(config.get("model"), dict) or "seed" not in config:
        raise ValueError("not what a run writes: its config has no data, model or seed")


def _add_speeds(found: Found, content: Record) -> None:
    rows = content.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "recipe" in row for row in rows):
        raise ValueError("not what scripts/benchmark.py benchmark=study writes")
    if twice := sorted({row["recipe"] for row in rows} & found.speeds.keys()):
        raise ValueError(f"other measured speeds of the recipe {twice[0]} are in another file")
    found.speeds |= {row["recipe"]: row | {"machine": content.get("machine")} for row in rows}

"""The files of a run's directory: their names, and how they are written and read."""

import json
import os
from pathlib import Path
from typing import Any

CONFIG = "config.json"  # the resolved configuration
CHECKPOINT = "last.ckpt"  # where the same command goes on
RESULT = "result.json"  # there once the run is complete
FAILURE = "failed.txt"  # why the last attempt ended, where it did not complete


def write_whole(path: Path, text: str) -> None:
    """Write `path` so that whoever reads it, also after a crash, finds the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """What a run wrote to `path`, None where there is no such file; ValueError where it is something else."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"cannot read {path} ({error}); move it away or choose another run_dir") from error
    if not isinstance(content, dict) or (path.name == RESULT and not {"config", "data"} <= content.keys()):
        raise ValueError(f"{path} is not what a run writes; move it away or choose another run_dir")
    return content

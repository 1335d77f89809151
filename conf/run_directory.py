"""The files of a run's directory: their names, and how they are written."""

import os
from pathlib import Path

CONFIG = "config.json"  # the resolved configuration
CHECKPOINT = "last.ckpt"  # where the same command goes on
RESULT = "result.json"  # there once the run is complete
FAILURE = "failed.txt"  # why the last attempt ended, where it did not complete


def write_whole(path: Path, text: str) -> None:
    """Write `path` so that whoever reads it, also after a crash, finds the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)

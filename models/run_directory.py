"""The files of a run's directory: their names, and how they are written and read."""

import json
import os
from pathlib import Path
from typing import Any

CONFIG = "config.json"  # the resolved configuration
CHECKPOINT = "last.ckpt"  # where the same command goes on
PREVIOUS = "previous.ckpt"  # the one before it, for where it is damaged
RESULT = "result.json"  # there once the run is complete
GATE_MAPS = "gate_maps.png"  # where the gates of a gated network let it compute, on test images
WEIGHTS = "model.safetensors"  # beside a CONFIG that describes a network, and is no run's
FAILURE = "failed.txt"  # why the last attempt ended, where it did not complete


def run_directories(folder: Path) -> list[Path]:
    """`folder` and the folders in it, at any depth, that are a run's: those with its configuration or its result."""
    found = {path.parent for name in (CONFIG, RESULT) for path in folder.rglob(name)}
    return sorted(directory for directory in found if not is_model_folder(directory))


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` holds a network alone (model_folder.py), and no run."""
    return (folder / WEIGHTS).is_file() and not any((folder / name).is_file() for name in (CHECKPOINT, RESULT))


def file_to_write(path: str | Path) -> Path:
    """`path`, for which a command is going to work: the folder that it lies in is made where there is none.

    OSError where that fails, or where `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"out={path} is a folder; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_whole(path: Path, content: str | bytes | memoryview, before: Path | None = None) -> None:
    """Write `path` so that whoever reads it, also after a crash, finds the old content or the new one, never a part.

    What `path` was is kept as the file `before`, where that is given. The new content lies beside `path` and on the
    disk before anything is renamed; where it does not fit, OSError, and all is as it was. A process that is killed
    meanwhile leaves that file, whose name begins with a dot.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if before and path.is_file():
            _keep_as(before, path)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _keep_as(kept: Path, path: Path) -> None:
    """Give the file `path` a second name, in place of the file that has it; `path` stays where links are possible."""
    link = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        link.hardlink_to(path)
    except OSError:  # not on every file system
        path.replace(kept)
    else:
        link.replace(kept)
    finally:
        link.unlink(missing_ok=True)  # it stays where both names already were one file


def read(path: Path) -> dict[str, Any] | None:
    """What a run wrote to `path`, None where there is no such file; ValueError where it is something else."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise ValueError(f"cannot read {path} ({error}); move it away or choose another run_dir") from error
    if not isinstance(content, dict) or (path.name == RESULT and not {"config", "data"} <= content.keys()):
        raise ValueError(f"{path} is not what a run writes; move it away or choose another run_dir")
    return content

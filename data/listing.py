"""Image files by what a user names: files, folders, patterns, a list on standard input."""

import os
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from data.folder import SUFFIXES

STANDARD_INPUT = "-"


def listed(words: Iterable[str], lines: Iterable[str]) -> Iterator[str]:
    """The files that `words` name, in their order; "-" stands for `lines`, one name a line.

    Of a folder all image files in and below it, sorted by name, hidden ones left out; of a pattern (`*`, `?`, `**`)
    what fits, sorted. A name that is neither stays as it is, whether there is such a file or not.
    ValueError where a folder holds no images or nothing fits a pattern.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from (name for line in lines if (name := line.rstrip("\r\n")))
        elif os.path.isdir(word):
            yield from _of_folder(Path(word))
        elif has_magic(word) and not os.path.lexists(word):
            yield from _fitting(word)
        else:
            yield word


def _of_folder(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, folder)]
    if not found:
        raise ValueError(f"images={folder}: there are no images in it; these end in {', '.join(sorted(SUFFIXES))}")
    return [str(path) for path in sorted(found)]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _fitting(pattern: str) -> list[str]:
    found = sorted(name for name in glob(pattern, recursive=True) if not os.path.isdir(name))
    if not found:
        raise ValueError(f"images={pattern}: no file fits this")
    return found

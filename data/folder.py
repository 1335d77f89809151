"""Images in folders, one for each class: root/train/<class>/... and root/val/<class>/...

val/ is the test set. Validation images are held out of train/ (data/module.py).
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.images import ImageSets, Names
from data.layout import check_class, check_classes, check_folder, check_root

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


def image_folder(root: Path) -> ImageSets:
    """The images under `root`/train and, for the test, `root`/val; ValueError says what is wrong with the layout.

    The classes are the sorted names of train's folders; val must have the same. Images may lie in folders within
    a class's folder. Hidden files and folders are left out, and so are files of other kinds; both are counted.
    """
    check_root(root)
    classes = _classes(root / "train")
    check_classes(root, classes, _classes(root / "val"))
    return ImageSets(classes, FolderImages(root / "train", classes), FolderImages(root / "val", classes))


class FolderImages:
    """The image files in `folder`/<class>, class by class, sorted by name."""

    def __init__(self, folder: Path, classes: list[str]) -> None:
        self.folder = folder
        self.skipped: Counter[str] = Counter()
        counts = dict.fromkeys(classes, 0)

        def names() -> Iterator[str]:
            for name in classes:
                for path in self._files(name):
                    counts[name] += 1
                    yield path
                check_class(folder / name, counts[name], self.skipped)

        self.names = Names(names())
        self.labels = np.repeat(np.arange(len(classes)), list(counts.values()))
        if self.skipped:
            kinds = ", ".join(f"{number} {kind}" for kind, number in self.skipped.most_common(5))
            log.info(f"{folder}: {len(self):,} images; not read: {kinds}")

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return str(self.folder / self.names[index])

    def read(self, index: int) -> bytes:
        with open(self.name(index), "rb", buffering=0) as file:
            return file.read()

    def _files(self, folder: str) -> Iterator[str]:
        """Paths of the images in and below `folder`, relative to self.folder."""
        for entry in _entries(self.folder / folder):
            path = f"{folder}/{entry.name}"
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                self.skipped["hidden"] += 1
            elif _is_folder(entry):
                yield from self._files(path)
            elif suffix in SUFFIXES:
                yield path
            else:
                self.skipped[suffix or "without suffix"] += 1


def _is_folder(entry: os.DirEntry) -> bool:
    """Also through a symbolic link; ValueError where that leads to a folder above, and so would never end."""
    if not entry.is_symlink():
        return entry.is_dir()
    path = Path(entry.path)
    if path.is_dir() and path.parent.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{path} links to a folder that it lies in, which would never end; remove it")
    return path.is_dir()  # False where it leads nowhere or in a circle


def _classes(folder: Path) -> list[str]:
    """The names of the folders in `folder`; ValueError where there are none, or images among them."""
    entries = [entry for entry in _entries(folder) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if _is_folder(entry)]
    loose = [entry.name for entry in entries if os.path.splitext(entry.name)[1].lower() in SUFFIXES]
    check_folder(folder, folders, loose)
    return folders


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)

"""Images in tar files, a few thousand in each: made by scripts/make_shards.py, readable by webdataset too.

Why not webdataset's own reader: it goes through a tar file from its start, so that resuming within an epoch reads
again what was seen, images are mixed only within a buffer, and processes must be given shards of equal number.
With the place of each image in an index, shards are read like a folder: any image at any time.
"""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from data.absent import SHARDS
from data.decode import BadImageError
from data.images import ImageSets

INDEX = "shards.json"  # written last: where it is, the shards are complete


@dataclass(frozen=True)
class Index:
    """Where the images of one shard lie: byte offsets and sizes, CRC-32 of the bytes, labels; each (N,) int64."""

    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray
    label: np.ndarray

    def save(self, shard: Path) -> None:
        """Write it beside the tar file `shard`, whole or not at all."""
        partial = shard.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **vars(self))
        partial.replace(shard.with_suffix(".npz"))

    @classmethod
    def load(cls, shard: Path) -> "Index":
        """The index of the tar file `shard`; ValueError where it is damaged."""
        path = shard.with_suffix(".npz")
        try:
            with path.open("rb") as file, np.load(file) as arrays:  # which have checksums
                return cls(**arrays)
        except (BadZipFile, EOFError, KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(
                f"{path} is damaged ({error}); copy it again, or remove it and run scripts/make_shards.py again"
            ) from error


def shards(root: Path) -> ImageSets:
    """The images in the shards under `root`; ValueError where they are incomplete.

    Sizes of the shards are compared here, the checksum of each image when it is read.
    """
    SHARDS.require(root)
    path = root / INDEX
    if not path.is_file():
        raise ValueError(f"no {path}; make shards with: python scripts/make_shards.py root=<folder> out={root}")
    try:
        described = json.loads(path.read_text())
        train, val = ([root / name for name in described["shards"][part]] for part in ("train", "val"))
        classes = described["classes"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); copy it again, or run scripts/make_shards.py again, which keeps whole shards"
        ) from error
    return ImageSets(classes, Shards(train), Shards(val))


class Shards:
    """The images of some shards, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        indices = [_checked(path) for path in paths]
        self.paths = paths
        self.ends = np.cumsum([len(index.label) for index in indices])
        self.offset, self.size, self.crc32, self.labels = (
            np.concatenate([getattr(index, name) for index in indices]) for name in ("offset", "size", "crc32", "label")
        )
        self.files: dict[int, int] = {}  # descriptors; of pread, which processes can share

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.paths[self._shard(index)]}, byte {self.offset[index]}"

    def read(self, index: int) -> bytes:
        shard = self._shard(index)
        if shard not in self.files:
            self.files[shard] = os.open(self.paths[shard], os.O_RDONLY)
        data = os.pread(self.files[shard], int(self.size[index]), int(self.offset[index]))
        if zlib.crc32(data) != self.crc32[index]:
            raise BadImageError("the checksum is wrong: the shard has changed since it was made")
        return data

    def _shard(self, index: int) -> int:
        return int(np.searchsorted(self.ends, index, side="right"))


def _checked(shard: Path) -> Index:
    missing = [path for path in (shard, shard.with_suffix(".npz")) if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing; copy it again, or run scripts/make_shards.py again to make it")
    index = Index.load(shard)
    least = int(index.offset[-1] + index.size[-1])
    if shard.stat().st_size < least:
        raise ValueError(
            f"{shard} has {shard.stat().st_size:,} bytes of at least {least:,}: it is cut short; copy it again, "
            "or remove it and run scripts/make_shards.py again"
        )
    return index

"""What a reader of image files offers, and a table of names that takes no more memory than their letters."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Images(Protocol):
    """The encoded images of one part of a data set, each readable by its number."""

    labels: np.ndarray  # (N,) int64

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where the image is, for messages."""
        ...

    def read(self, index: int) -> bytes:
        """The image's file; OSError where that cannot be read, BadImageError where it is not what was stored."""
        ...


@dataclass(frozen=True)
class ImageSets:
    """The images for training and for the test, labelled by the positions of their classes in `classes`."""

    classes: Sequence[str]
    train: Images
    test: Images


class Names:
    """Many strings in one buffer: a list of 1.3 million Python strings grows in every worker that reads it.

    (Reading a Python object writes its reference count, so that each forked worker ends with a copy of its own.)
    """

    def __init__(self, names: Iterable[str]) -> None:
        buffer, ends = bytearray(), array("q", [0])
        for name in names:
            buffer += name.encode("utf-8", "surrogateescape")
            ends.append(len(buffer))
        self.letters, self.ends = np.frombuffer(bytes(buffer), np.uint8), np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        return self.letters[self.ends[index] : self.ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")

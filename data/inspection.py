"""Look at every image of a data set once: can it be decoded, how large is it, is it there twice."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from data.decode import BadImageError, Region, decode_region
from data.images import Images
from data.samples import read

ORIENTATION = 0x0112  # the EXIF tag
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


class Look(NamedTuple):
    """One image: why it cannot be read ("" where it can), its size, whether a tag would turn it, a digest."""

    problem: str
    height: int
    width: int
    turned: bool
    digest: bytes


@dataclass(frozen=True)
class Inspection:
    """What `looks` at all images of one part, in their order, say."""

    images: Images
    classes: list[str]
    looks: list[Look]

    def report(self) -> dict[str, Any]:
        """Counts by class, extreme and median sizes in pixels, and names of what is wrong."""
        good = [look for look in self.looks if not look.problem]
        counts = np.bincount(self.images.labels, minlength=len(self.classes)).tolist()
        names = self.images.name
        return {
            "images": len(self.looks),
            "unreadable": {names(index): look.problem for index, look in enumerate(self.looks) if look.problem},
            "height": _range([look.height for look in good]),
            "width": _range([look.width for look in good]),
            "turned_by_tag": sum(look.turned for look in good),
            "images_of_class": dict(zip(self.classes, counts, strict=True)),
            "duplicates": [[names(index) for index in group] for group in self.places.values() if len(group) > 1],
        }

    @property
    def places(self) -> dict[bytes, list[int]]:
        """The positions of the images with each digest."""
        places = defaultdict(list)
        for index, look in enumerate(self.looks):
            if look.digest:
                places[look.digest].append(index)
        return places


def inspect(images: Images, classes: Iterable[str], num_workers: int, progress: Progress) -> Inspection:
    """Read and decode all `images` in `num_workers` processes; `progress` wraps the iterable of batches."""
    loader = DataLoader(_Looks(images), batch_size=32, num_workers=num_workers, collate_fn=list)
    return Inspection(images, list(classes), [look for batch in progress(loader, len(loader)) for look in batch])


def shared(one: Inspection, other: Inspection) -> list[list[str]]:
    """Pairs of names of the same file in both."""
    others = other.places
    return [
        [one.images.name(places[0]), other.images.name(others[digest][0])]
        for digest, places in one.places.items()
        if digest in others
    ]


class _Looks(Dataset):
    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Look:
        digest = b""
        try:
            data = read(self.images, index)
            digest = hashlib.blake2b(data, digest_size=16).digest()
            decode_region(data, lambda height, width: Region((0, 0, height, width), (8, 8)), most_shrink=8)
            picture = Image.open(BytesIO(data))
        except BadImageError as error:
            return Look(str(error), 0, 0, False, digest)
        return Look("", picture.height, picture.width, _turned(picture), digest)


def _turned(picture: Image.Image) -> bool:
    try:
        return picture.getexif().get(ORIENTATION, 1) != 1
    except SyntaxError:  # no tags that could be read; the pixels have been
        return False


def _range(pixels: list[int]) -> dict[str, float] | None:
    if not pixels:
        return None
    return {"min": min(pixels), "median": float(np.median(pixels)), "max": max(pixels)}

"""One image of a batch: read, decoded and cropped, in whatever process does that."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.decode import BadImageError
from data.images import Images
from data.loader import Draw, derive_seed

ATTEMPTS = 100  # unreadable images in a row before giving up
NONE = -1


class Request(NamedTuple):
    """The image at `position`, as `epoch` shows it, at `size` pixels."""

    position: int
    epoch: int
    size: int


class TrainingSamples(Dataset):
    """Requests -> (uint8 (S, S, 3), label, position of an unreadable image that this one replaces, or NONE)."""

    def __init__(self, images: Images, index: np.ndarray, crop: Callable[[bytes, int, int], Tensor], seed: int) -> None:
        self.images, self.index, self.crop, self.seed = images, index, crop, seed

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, request: Request) -> tuple[Tensor, int, int]:
        position, epoch, size = request
        attempts = min(ATTEMPTS, len(self))
        for attempt in range(attempts):
            number = int(self.index[(position + attempt) % len(self)])
            try:
                data = read(self.images, number)
                image = self.crop(data, size, derive_seed(self.seed, Draw.CROP, epoch, position))
            except BadImageError:
                continue
            return image.permute(1, 2, 0), int(self.images.labels[number]), position if attempt else NONE
        name = self.images.name(int(self.index[position]))
        raise BadImageError(f"{attempts} images in a row cannot be read, from {name} on; are these images?")


class EvalSamples(Dataset):
    """Requests -> (uint8 (S, S, 3), label, NONE), or (zeros, NONE, position) of an image that cannot be read."""

    def __init__(self, images: Images, index: np.ndarray, crop: Callable[[bytes, int], Tensor]) -> None:
        self.images, self.index, self.crop = images, index, crop

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, request: Request) -> tuple[Tensor, int, int]:
        number = int(self.index[request.position])
        try:
            image = self.crop(read(self.images, number), request.size)
        except BadImageError:
            return torch.zeros((request.size, request.size, 3), dtype=torch.uint8, device="cpu"), NONE, request.position
        return image.permute(1, 2, 0), int(self.images.labels[number]), NONE


def read(images: Images, number: int) -> bytes:
    """The bytes of an image; BadImageError where there are none."""
    try:
        data = images.read(number)
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error
    if not data:
        raise BadImageError("the file is empty")
    return data

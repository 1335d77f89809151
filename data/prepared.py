"""Image files that are to be classified, each made into what a network was trained on."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from data.crops import CentreCrop
from data.decode import BadImageError, Region, decode_region
from data.images import Names
from data.in_memory import resize
from models.preprocessing import Preprocessing


class Prepared(Dataset):
    """Positions in `paths` -> (uint8 (channels, size, size), ""), or (zeros, why the file cannot be read).

    As `preprocessing` says, but not normalised yet: data/augment.py does that to a batch, on its device. Files are
    decoded as for training (data/decode.py): orientation tags are ignored, of an animation the first frame counts.
    ValueError where there are neither 1 nor 3 `channels`.
    """

    def __init__(self, paths: Iterable[str], *, size: int, channels: int, preprocessing: Preprocessing) -> None:
        if channels not in (1, 3):
            raise ValueError(f"this network takes {channels} channels; image files have 1 (grey) or 3")
        self.paths, self.size, self.channels, self.border = Names(paths), size, channels, preprocessing.border
        self.crop = CentreCrop(preprocessing.centre_crop) if preprocessing.centre_crop else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Tensor, str]:
        try:
            return self.prepare(Path(self.paths[position]).read_bytes()), ""
        except BadImageError as error:
            problem = str(error)
        except OSError as error:
            problem = error.strerror or str(error)
        none = torch.zeros((self.channels, self.size, self.size), dtype=torch.uint8, device="cpu")
        return none, problem

    def prepare(self, data: bytes) -> Tensor:
        """A file's bytes -> uint8 (channels, size, size); BadImageError where they are no image."""
        if not data:
            raise BadImageError("the file is empty")
        if self.crop:
            return self._channels(self.crop(data, self.size)).contiguous()
        image = self._channels(decode_region(data, lambda *size: Region((0, 0, *size), size)))
        height, width = (round(self.border * side) for side in image.shape[1:])
        return resize(F.pad(image, (width, width, height, height))[None], self.size)[0]

    def _channels(self, image: Tensor) -> Tensor:
        """RGB as it is, or in grey as PIL computes it: a grey file, which was decoded as RGB, comes back as it was."""
        if self.channels == 3:
            return image
        red, green, blue = image.int()
        return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).byte()[None]

"""What a network sees of an image: random crops in training, the centre in evaluation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from data.decode import HUGE, Box, Region, decode_region

RATIO = (3 / 4, 4 / 3)  # of width to height, as in all ImageNet training since Szegedy et al. 2014
LONG = 4  # times the shorter side; of longer images the centre alone is scaled, which takes PIL twice as long


class TrainingCrops:
    """A random part of an image, `crop_area` (smallest, largest share) of it, flipped, changed and erased at random.

    Szegedy et al. 2014, arXiv:1409.4842. `randaugment` is the magnitude of two random operations (Cubuk et al.
    2019, arXiv:1909.13719), 0 for none; `erasing` the probability of random erasing (Zhong et al. 2017,
    arXiv:1708.04896) with the mean colour, which is zero after normalising.
    """

    def __init__(
        self, crop_area: Sequence[float], flip: bool, randaugment: int, erasing: float, mean: Sequence[float]
    ) -> None:
        if len(crop_area) != 2 or not 0 < crop_area[0] <= crop_area[1] <= 1:
            raise ValueError(f"data.crop_area={list(crop_area)}: must be two shares of the image; [0.08, 1] is usual")
        if not 0 <= randaugment <= 30:
            raise ValueError(f"data.randaugment={randaugment}: must lie between 0 (off) and 30; 9 is usual")
        if not 0 <= erasing <= 1:
            raise ValueError(f"data.erasing={erasing}: must be a probability; 0.25 is usual")
        self.area = list(crop_area)
        self.flip = flip
        colour = [round(255 * value) for value in mean]
        self.changes: list[Callable[[Tensor], Tensor]] = [v2.RandAugment(magnitude=randaugment)] if randaugment else []
        self.changes += [v2.RandomErasing(erasing, value=colour)] if erasing else []  # pyright: ignore[reportArgumentType]

    def __call__(self, data: bytes, size: int, seed: int) -> Tensor:
        """An image file's bytes -> uint8 (3, size, size), the same for the same seed."""
        with seeded(seed):
            image = decode_region(
                data, lambda height, width: Region(self._box(height, width), (size, size)), most_shrink=8
            )
            if self.flip and torch.rand((), dtype=torch.float32, device="cpu") < 0.5:
                image = image.flip(-1)
            for change in self.changes:
                image = change(image)
            return image

    def _box(self, height: int, width: int) -> Box:
        shape = torch.empty((1, height, width), device="meta")
        top, left, rows, columns = v2.RandomResizedCrop.get_params(shape, self.area, list(RATIO))
        return top, left, rows, columns


@dataclass(frozen=True)
class CentreCrop:
    """The centre of an image whose shorter side is scaled so that the crop is the share `of_side` of it."""

    of_side: float

    def __post_init__(self) -> None:
        if not 0 < self.of_side <= 1:
            raise ValueError(f"data.centre_crop={self.of_side}: must be a share of the image's side; 0.875 is usual")

    def __call__(self, data: bytes, size: int) -> Tensor:
        """An image file's bytes -> uint8 (3, size, size)."""
        side = int(size / self.of_side)

        def choose(height: int, width: int) -> Region:
            short, long = sorted((height, width))
            scaled = (side * height // short, side * width // short)
            if long <= LONG * short and height * width <= HUGE:
                return Region((0, 0, height, width), scaled)
            return _centre(height, width, scaled, size)

        return v2.functional.center_crop(decode_region(data, choose), [size, size])


def _centre(height: int, width: int, scaled: tuple[int, int], size: int) -> Region:
    """The central `size` x `size` of the `scaled` image: where torchvision's center_crop cuts, in original pixels."""
    down, across = height / scaled[0], width / scaled[1]
    top, left = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return Region((top * down, left * across, size * down, size * across), (size, size), window=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers (CPU) from `seed` inside, from where they were afterwards.

    torch.manual_seed and fork_rng visit every device too, which takes longer than a crop.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)

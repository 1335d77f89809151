"""A whole data set in memory as uint8, on the device that trains, augmented there in batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from data.augment import Flip, crop, cutout, flip, mirrored, normalise
from data.loader import Batch, Draw, Fetch, Loader, derive_seed
from data.module import DataModule

ADVICE = "batches are made on the device that trains: train on a faster one, or with a larger network"


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of the training and of the test set.

    `classes` are the names of the labels; none: their numbers. The images have a black border that the originals lack:
    `border` is its width on each side as a share of the original's.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: Sequence[str] = ()
    border: float = 0.0


class InMemoryData(DataModule):
    """As DataModule, of images that `load` reads at once.

    Images of another size than `input_size` are resized (bilinear) once. `crop_padding` and `cutout` are pixels, 0
    for none. Raises ValueError where the data do not have the declared classes or channels.
    """

    def __init__(
        self,
        root: str,
        load: Callable[[Path], Arrays],
        *,
        num_classes: int,
        input_size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int,
        flip: Flip | None,
        cutout: int,
        mixup: float,
        cutmix: float,
        batch_size: int,
        val_fraction: float,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            input_size=input_size,
            channels=channels,
            mean=mean,
            std=std,
            mixup=mixup,
            cutmix=cutmix,
            batch_size=batch_size,
            val_fraction=val_fraction,
        )
        if not 0 <= crop_padding <= input_size:
            raise ValueError(
                f"data.crop_padding={crop_padding}: must lie between 0 (none) and data.input_size={input_size}"
            )
        if not 0 <= cutout <= input_size:
            raise ValueError(f"data.cutout={cutout}: must lie between 0 (none) and data.input_size={input_size}")
        self.root, self.load = Path(root).expanduser(), load
        self.crop_padding, self.cutout = crop_padding, cutout
        self.flip: Flip | None = flip
        self.arrays: Arrays | None = None

    def prepare_data(self) -> None:
        """In one process of a machine, before the others read: what is missing is downloaded once."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        if self.arrays is not None:
            return
        arrays = self.load(self.root)
        self._check(arrays)
        self.arrays = replace(
            arrays,
            train_images=resize(arrays.train_images, self.input_size),
            test_images=resize(arrays.test_images, self.input_size),
        )
        self.train_index, self.val_index = self.split(len(arrays.train_labels))

    def train_dataloader(self) -> Loader:
        fetch = self._fetch(*self._train(self.train_index), self.seed)
        return self.train_loader(len(self.train_index), fetch, advice=ADVICE)

    def name_of(self, position: int) -> str:
        """Its index in the training set."""
        return str(int(self.train_index[position]))

    def val_dataloader(self) -> Loader:
        return self.eval_loader(len(self.val_index), self._fetch(*self._train(self.val_index), None))

    def test_dataloader(self) -> Loader:
        assert self.arrays is not None
        images, labels = self.arrays.test_images, self.arrays.test_labels
        return self.eval_loader(len(labels), self._fetch(images, labels, None))

    @property
    def classes(self) -> list[str]:
        assert self.arrays is not None
        return list(self.arrays.classes) or [str(number) for number in range(self.num_classes)]

    def preprocessing(self) -> dict[str, Any]:
        assert self.arrays is not None
        return {"mean": self.mean, "std": self.std, "border": self.arrays.border, "centre_crop": None}

    def augmentation(self, num_images: int, seed: int, epoch: int) -> Callable[[Tensor, Tensor], Tensor]:
        """A function of (images uint8, their indices) that augments and normalises, for one epoch.

        What happens to each image is drawn here, for all at once, so that it depends on nothing but seed and epoch.
        """
        generator = Generator().manual_seed(derive_seed(seed, Draw.CROP, epoch))
        corners = torch.randint(2 * self.crop_padding + 1, (num_images, 2), generator=generator, device="cpu")
        centres = torch.randint(self.input_size, (num_images, 2), generator=generator, device="cpu")
        flipped = mirrored(num_images, self.flip, seed, epoch) if self.flip else None

        def augment(images: Tensor, index: Tensor) -> Tensor:
            device = images.device
            if self.crop_padding:
                images = crop(images, self.crop_padding, corners[index].to(device))
            if flipped is not None:
                images = flip(images, flipped[index].to(device))
            images = normalise(images, self.mean, self.std)
            return cutout(images, self.cutout, centres[index].to(device)) if self.cutout else images

        return augment

    def _train(self, index: Tensor) -> tuple[Tensor, Tensor]:
        assert self.arrays is not None
        return self.arrays.train_images[index], self.arrays.train_labels[index]

    def _fetch(self, images: Tensor, labels: Tensor, seed: int | None) -> Fetch:
        """Batches of these images, augmented where there is a seed."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        images, labels = images.to(device), labels.to(device)

        def fetch(batches: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
            augment = None if seed is None else self.augmentation(len(labels), seed, epoch)
            for index in batches:
                there = index.to(device)
                batch = images[there]
                yield augment(batch, index) if augment else normalise(batch, self.mean, self.std), labels[there]

        return fetch

    def _check(self, arrays: Arrays) -> None:
        classes = int(torch.cat([arrays.train_labels, arrays.test_labels]).max()) + 1
        if classes != self.num_classes:
            raise ValueError(f"data.num_classes={self.num_classes}, but the labels run from 0 to {classes - 1}")
        for images in (arrays.train_images, arrays.test_images):
            if images.shape[1] != self.channels:
                raise ValueError(f"data.channels={self.channels}, but the images have {images.shape[1]}")


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) as (N, C, size, size), bilinear; the same tensor where they fit."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    parts = [F.interpolate(part.float(), size, mode="bilinear", antialias=True) for part in images.split(1024)]
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts])

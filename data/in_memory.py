"""A whole data set in memory as uint8, on the device that trains, augmented there in batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from data.augment import Flip, crop, cutout, flip, mirrored, normalise
from data.loader import Batch, Draw, Loader, Process, derive_seed
from data.mix import mixer

SPLIT_SEED = 0  # the held-out split is the same in every run, whatever the run's seed


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of the training and of the test set."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class InMemoryData(pl.LightningDataModule):
    """Training, validation and test batches (images float32 (N, C, S, S), labels int64 (N,)) of one data set.

    The validation images are a fixed `val_fraction` of the training set, never of the test set.
    `batch_size` counts the images of a step over all processes. Images of another size than
    `input_size` are resized (bilinear) once. `crop_padding` and `cutout` are pixels, 0 for none. Raises ValueError
    where the data do not have the declared classes or channels, or the batches do not fit.
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
        cutout: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        batch_size: int,
        val_fraction: float,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction={val_fraction}: must lie between 0 and 1; 0.1 is usual")
        if not 0 <= cutout <= input_size:
            raise ValueError(f"data.cutout={cutout}: must lie between 0 (none) and data.input_size={input_size}")
        self.root, self.load = Path(root).expanduser(), load
        self.num_classes, self.input_size, self.channels = num_classes, input_size, channels
        self.mean, self.std = mean, std
        self.crop_padding, self.cutout = crop_padding, cutout
        self.flip: Flip | None = flip
        self.mix = mixer(mixup, cutmix, num_classes)
        self.batch_size, self.val_fraction = batch_size, val_fraction
        self.arrays: Arrays | None = None

    def setup(self, stage: str) -> None:
        if self.arrays is not None:
            return
        arrays = self.load(self.root)
        self._check(arrays)
        self.arrays = Arrays(
            resize(arrays.train_images, self.input_size),
            arrays.train_labels,
            resize(arrays.test_images, self.input_size),
            arrays.test_labels,
        )
        self.seed = torch.initial_seed()
        order = torch.randperm(len(arrays.train_labels), generator=Generator().manual_seed(SPLIT_SEED))
        num_val = max(1, round(self.val_fraction * len(order)))
        self.val_index, self.train_index = order.split([num_val, len(order) - num_val])

    def train_dataloader(self) -> Loader:
        assert self.arrays is not None
        images, labels = self.arrays.train_images[self.train_index], self.arrays.train_labels[self.train_index]
        return self._loader(images, labels, self.seed)

    def val_dataloader(self) -> Loader:
        assert self.arrays is not None
        return self._loader(self.arrays.train_images[self.val_index], self.arrays.train_labels[self.val_index], None)

    def test_dataloader(self) -> Loader:
        assert self.arrays is not None
        return self._loader(self.arrays.test_images, self.arrays.test_labels, None)

    def _loader(self, images: Tensor, labels: Tensor, seed: int | None) -> Loader:
        trainer = self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        images, labels = images.to(device), labels.to(device)

        def fetch(batches: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
            change = None if seed is None else self.augmentation(len(labels), epoch)
            for index in batches:
                on_device = index.to(device)
                batch = images[on_device]
                yield (
                    normalise(batch, self.mean, self.std) if change is None else change(batch, index),
                    labels[on_device],
                )

        return Loader(
            len(labels),
            self.batch_size,
            fetch,
            process=Process(trainer.global_rank, trainer.world_size),
            seed=seed,
            epoch=lambda: trainer.current_epoch,
            mix=self.mix if seed is not None else None,
            advice="batches are made on the device that trains; larger data.batch_size, or fewer augmentations",
        )

    def augmentation(self, num_images: int, epoch: int) -> Callable[[Tensor, Tensor], Tensor]:
        """A function of (images uint8, their indices) that augments and normalises, for one epoch.

        What happens to each image is drawn here, for all at once, so that it depends on nothing but seed and epoch.
        """
        generator = Generator().manual_seed(derive_seed(self.seed, Draw.CROP, epoch))
        corners = torch.randint(2 * self.crop_padding + 1, (num_images, 2), generator=generator)
        centres = torch.randint(self.input_size, (num_images, 2), generator=generator)
        flipped = mirrored(num_images, self.flip, self.seed, epoch) if self.flip else None

        def augment(images: Tensor, index: Tensor) -> Tensor:
            device = images.device
            if self.crop_padding:
                images = crop(images, self.crop_padding, corners[index].to(device))
            if flipped is not None:
                images = flip(images, flipped[index].to(device))
            images = normalise(images, self.mean, self.std)
            return cutout(images, self.cutout, centres[index].to(device)) if self.cutout else images

        return augment

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

"""A whole data set in memory as uint8, on the device that trains, augmented there in batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from data.augment import normalise, random_crop, random_flip

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
    `input_size` are resized (bilinear) once. Raises ValueError where the data do not have the
    declared classes or channels, or the batches do not fit.
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
        flip: bool,
        batch_size: int,
        val_fraction: float,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction={val_fraction}: must lie between 0 and 1; 0.1 is usual")
        self.root, self.load = Path(root).expanduser(), load
        self.num_classes, self.input_size, self.channels = num_classes, input_size, channels
        self.mean, self.std = mean, std
        self.crop_padding, self.flip = crop_padding, flip
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
        order = torch.randperm(len(arrays.train_labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
        self.val_index, self.train_index = order.split([self.num_val, len(order) - self.num_val])

    @property
    def num_val(self) -> int:
        assert self.arrays is not None
        return max(1, round(self.val_fraction * len(self.arrays.train_labels)))

    def train_dataloader(self) -> "Batches":
        assert self.arrays is not None
        assert self.trainer is not None
        local_size, rest = divmod(self.batch_size, self.trainer.world_size)
        if rest or local_size < 1:
            raise ValueError(
                f"data.batch_size={self.batch_size} must be a multiple of the {self.trainer.world_size} processes"
            )
        if self.batch_size > len(self.train_index):
            raise ValueError(
                f"data.batch_size={self.batch_size}: there are only {len(self.train_index)} training images"
            )
        images, labels = self.arrays.train_images[self.train_index], self.arrays.train_labels[self.train_index]
        return self._batches(images, labels, local_size, self.augment)

    def val_dataloader(self) -> "Batches":
        assert self.arrays is not None
        images, labels = self.arrays.train_images[self.val_index], self.arrays.train_labels[self.val_index]
        return self._batches(images, labels, self.batch_size, None)

    def test_dataloader(self) -> "Batches":
        assert self.arrays is not None
        return self._batches(self.arrays.test_images, self.arrays.test_labels, self.batch_size, None)

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Random crop and flip of a batch of uint8 images (N, C, S, S)."""
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, generator)
        return random_flip(images, generator) if self.flip else images

    def _batches(self, images: Tensor, labels: Tensor, batch_size: int, augment: "Augment | None") -> "Batches":
        trainer = self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        return Batches(
            images.to(device),
            labels.to(device),
            batch_size,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            to_input=lambda batch: normalise(batch, self.mean, self.std),
            augment=augment,
            # Order and augmentation depend on the seed and the epoch alone, so that a resumed run repeats them.
            seed=lambda: torch.initial_seed() + 1_000_003 * trainer.current_epoch,
        )

    def _check(self, arrays: Arrays) -> None:
        classes = int(torch.cat([arrays.train_labels, arrays.test_labels]).max()) + 1
        if classes != self.num_classes:
            raise ValueError(f"data.num_classes={self.num_classes}, but the labels run from 0 to {classes - 1}")
        for images in (arrays.train_images, arrays.test_images):
            if images.shape[1] != self.channels:
                raise ValueError(f"data.channels={self.channels}, but the images have {images.shape[1]}")


Augment = Callable[[Tensor, torch.Generator], Tensor]


class Batches:
    """One pass over images and labels in batches; shuffled, augmented and cut to whole batches where it trains.

    Processes take every world_size-th image. In evaluation each image comes exactly once: nothing is
    padded, so the last batches of two processes may differ in size or number.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        rank: int,
        world_size: int,
        to_input: Callable[[Tensor], Tensor],
        augment: Augment | None,
        seed: Callable[[], int],
    ) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.rank, self.world_size = rank, world_size
        self.to_input, self.augment, self.seed = to_input, augment, seed

    def __len__(self) -> int:
        if self.augment:
            return len(self.labels) // (self.batch_size * self.world_size)
        local = len(range(self.rank, len(self.labels), self.world_size))
        return -(-local // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator(self.images.device).manual_seed(self.seed())
        order = self._order(generator)[self.rank :: self.world_size]
        for index in order.split(self.batch_size)[: len(self)]:
            images = self.images[index]
            if self.augment:
                images = self.augment(images, generator)
            yield self.to_input(images), self.labels[index]

    def _order(self, generator: torch.Generator) -> Tensor:
        device = self.images.device
        if self.augment:
            return torch.randperm(len(self.labels), generator=generator, device=device)
        return torch.arange(len(self.labels), device=device)


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) as (N, C, size, size), bilinear; the same tensor where they fit."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    parts = [F.interpolate(part.float(), size, mode="bilinear", antialias=True) for part in images.split(1024)]
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts])

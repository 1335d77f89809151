"""Data sets too large for memory: images decoded by worker processes, normalised on the device that trains."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from torch import Tensor

from data.augment import normalise
from data.bad_images import BadImages
from data.crops import CentreCrop, TrainingCrops
from data.images import ImageSets
from data.loader import Batch, Fetch, Loader
from data.module import DataModule
from data.samples import EvalSamples, TrainingSamples
from data.workers import DecodedBatches, Samples


class ImageData(DataModule):
    """As DataModule, of image files that `load` finds; RGB.

    `num_workers` processes decode for each training process; null: its share of the machine's cores but one.
    `start_size` (null: none) is the size of the training crops at the start; it rises to `input_size` in steps of
    32. The run fails when more than `bad_share` of a part's images cannot be read; fewer are replaced in training,
    left out of evaluation, and listed in the run's directory.
    """

    def __init__(
        self,
        root: str,
        load: Callable[[Path], ImageSets],
        *,
        num_classes: int,
        input_size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop_area: Sequence[float],
        flip: bool,
        randaugment: int,
        erasing: float,
        centre_crop: float,
        start_size: int | None,
        mixup: float,
        cutmix: float,
        batch_size: int,
        val_fraction: float,
        num_workers: int | None,
        bad_share: float,
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
        _check(channels, input_size, start_size, num_workers, bad_share)
        self.root, self.load, self.open = Path(root).expanduser(), load, WeakSet[DecodedBatches]()
        self.training_crop = TrainingCrops(crop_area, flip, randaugment, erasing, mean)
        self.eval_crop = CentreCrop(centre_crop)
        self.start_size, self.num_workers, self.bad_share = start_size, num_workers, bad_share
        self.sets: ImageSets | None = None

    def setup(self, stage: str) -> None:
        if self.sets is not None:
            return
        sets = self.load(self.root)
        if len(sets.classes) != self.num_classes:
            raise ValueError(
                f"data.num_classes={self.num_classes}, but {self.root} has {len(sets.classes)} classes; "
                f"set data.num_classes={len(sets.classes)}"
            )
        self.sets = sets
        self.train_index, self.val_index = (index.numpy() for index in self.split(len(sets.train)))

    def train_dataloader(self) -> Loader:
        samples = self.training_samples(self.seed)
        return self.train_loader(len(samples), self._fetch(samples, self.training_size, "train"), advice=self._advice())

    def training_samples(self, seed: int) -> TrainingSamples:
        assert self.sets is not None
        return TrainingSamples(self.sets.train, self.train_index, self.training_crop, seed)

    def name_of(self, position: int) -> str:
        """Its file."""
        assert self.sets is not None
        return self.sets.train.name(int(self.train_index[position]))

    def val_dataloader(self) -> Loader:
        assert self.sets is not None
        return self._eval_loader(EvalSamples(self.sets.train, self.val_index, self.eval_crop), "val")

    def test_dataloader(self) -> Loader:
        assert self.sets is not None
        return self._eval_loader(EvalSamples(self.sets.test, np.arange(len(self.sets.test)), self.eval_crop), "test")

    def training_size(self, epoch: int) -> int:
        """Pixels of the training crops in `epoch`, from `start_size` in the first to `input_size` in the last."""
        if self.start_size is None:
            return self.input_size
        trainer = self.trainer
        assert trainer is not None
        steps_per_epoch = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        num_epochs = -(-trainer.estimated_stepping_batches // steps_per_epoch)
        done = epoch / max(1, num_epochs - 1)
        return self.input_size - round((1 - done) * (self.input_size - self.start_size) / 32) * 32

    @property
    def classes(self) -> list[str]:
        assert self.sets is not None
        return list(self.sets.classes)

    def preprocessing(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "border": 0.0, "centre_crop": self.eval_crop.of_side}

    def _eval_loader(self, samples: EvalSamples, part: str) -> Loader:
        return self.eval_loader(len(samples), self._fetch(samples, lambda epoch: self.input_size, part))

    def _fetch(self, samples: Samples, size: Callable[[int], int], part: str) -> Fetch:
        """Batches on the device, normalised there."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        decode = self.decode(samples, size, part)

        def fetch(batches: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
            for images, labels in decode(batches, epoch):
                images = images.to(device, non_blocking=True).permute(0, 3, 1, 2)  # N, 3, H, W in memory as N, H, W, 3
                yield normalise(images, self.mean, self.std), labels.to(device, non_blocking=True)

        return fetch

    def decode(self, samples: Samples, size: Callable[[int], int], part: str) -> Fetch:
        """Batches as the workers make them: uint8 (N, H, W, 3) in host memory; `size` of an epoch is H = W.

        Bad images are counted against those of `part`.
        """
        assert self.trainer is not None
        bad = BadImages(Path(self.trainer.default_root_dir), part, len(samples), self.bad_share)
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        decoded = DecodedBatches(samples, size, bad, num_workers=self.workers, pin_memory=on_gpu)
        self.open.add(decoded)
        return decoded

    def teardown(self, stage: str) -> None:
        """End the workers of what was fitted or tested."""
        for decoded in self.open:
            decoded.close()

    def on_exception(self, exception: BaseException) -> None:
        """Where a run ends early, too."""
        self.teardown("")

    @property
    def workers(self) -> int:
        """Worker processes for each training process."""
        if self.num_workers is not None:
            return self.num_workers
        assert self.trainer is not None
        return max(1, len(os.sched_getaffinity(0)) // max(1, self.trainer.num_devices) - 1)

    def _advice(self) -> str:
        cores = len(os.sched_getaffinity(0))
        return (
            f"data.num_workers is {self.workers} (this process may use {cores} cores); more of them help up to the "
            "cores, then smaller files (shorter side 256 to 400 pixels), a faster disk, or scripts/make_shards.py"
        )


def _check(channels: int, input_size: int, start_size: int | None, num_workers: int | None, bad_share: float) -> None:
    if channels != 3:
        raise ValueError(f"data.channels={channels}: image files are read as RGB; it must be 3")
    if start_size is not None and not 32 <= start_size <= input_size:
        raise ValueError(f"data.start_size={start_size}: must lie between 32 and data.input_size={input_size}")
    if not 0 <= bad_share < 1:
        raise ValueError(f"data.bad_share={bad_share}: must be a share of the images, from 0 to below 1")
    if num_workers is not None and num_workers < 0:
        raise ValueError(f"data.num_workers={num_workers}: must be 0 or more, or null for the machine's cores")

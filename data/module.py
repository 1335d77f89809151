"""What every data set has in common: its declared shape, how it is split and batched, and where a run stopped."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Generator, Tensor

from data.loader import Fetch, Loader, Process
from data.mix import mixer

SPLIT_SEED = 0  # the held-out split is the same in every run, whatever the run's seed


class DataModule(pl.LightningDataModule):
    """Training, validation and test batches (images float32 (N, C, S, S), labels int64 (N,)) of one data set.

    The validation images are a fixed `val_fraction` of the training set, never of the test set.
    `batch_size` counts the images of a step over all processes. Labels are (N, num_classes) where `mixup` or
    `cutmix` (data/mix.py) are on.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        input_size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        mixup: float,
        cutmix: float,
        batch_size: int,
        val_fraction: float,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction={val_fraction}: must lie between 0 and 1; 0.1 is usual")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"data.{name}={list(values)}: must have one value, or one for each of data.channels={channels}"
                )
        self.num_classes, self.input_size, self.channels = num_classes, input_size, channels
        self.mean, self.std = (list(values) * (channels // len(values)) for values in (mean, std))
        self.mix = mixer(mixup, cutmix, num_classes)
        self.batch_size, self.val_fraction = batch_size, val_fraction
        self.resume: dict[str, int] | None = None

    def split(self, num_images: int) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the validation images."""
        order = torch.randperm(num_images, generator=Generator().manual_seed(SPLIT_SEED), device="cpu")
        num_val = max(1, round(self.val_fraction * num_images))
        return order[num_val:], order[:num_val]

    def train_loader(self, num_images: int, fetch: Fetch, *, seed: int, advice: str) -> Loader:
        """Shuffled batches, each epoch others, from where the checkpoint stopped."""
        self.loader = self._loader(num_images, fetch, seed, advice)
        if self.resume is not None:
            self.loader.load_state_dict(self.resume)
        return self.loader

    def eval_loader(self, num_images: int, fetch: Fetch) -> Loader:
        """Batches in order, each image once."""
        return self._loader(num_images, fetch, None, "")

    # Lightning keeps the state of loaders too, but restores it only if nothing asked for their length before.
    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resume = state_dict

    def _loader(self, num_images: int, fetch: Fetch, seed: int | None, advice: str) -> Loader:
        trainer = self.trainer
        assert trainer is not None
        return Loader(
            num_images,
            self.batch_size,
            fetch,
            process=Process(trainer.global_rank, trainer.world_size),
            seed=seed,
            epoch=lambda: trainer.current_epoch,
            mix=self.mix if seed is not None else None,
            advice=advice,
        )

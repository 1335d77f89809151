"""What every data set has in common: its declared shape, how it is split and batched."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Generator, Tensor

from data.layout import explain_likeness
from data.loader import Batch, Fetch, Loader, Process, share
from data.mix import mixer

SPLIT_SEED = 0  # the held-out split is the same in every run, whatever the run's seed


class DataModule(pl.LightningDataModule):
    """Training, validation and test batches (images float32 (N, C, S, S), labels int64 (N,)) of one data set.

    The validation images are a fixed `val_fraction` of the training set, never of the test set.
    `batch_size` counts the images of a step over all processes. Labels are (N, num_classes) where `mixup` or
    `cutmix` (data/mix.py) are on.
    """

    root: Path  # where the data lie

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
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size}: must be at least 1; 128 is usual")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"data.{name}={list(values)}: must have one value, or one for each of data.channels={channels}"
                )
        if min(std) <= 0:
            raise ValueError(f"data.std={list(std)}: must be positive, it divides the pixels")
        self.num_classes, self.input_size, self.channels = num_classes, input_size, channels
        self.mean, self.std = (list(values) * (channels // len(values)) for values in (mean, std))
        self.mix = mixer(mixup, cutmix, num_classes)
        self.batch_size, self.val_fraction = batch_size, val_fraction

    @cached_property
    def seed(self) -> int:
        """The run's seed, as it was when first asked for: each process may draw from another later."""
        return torch.initial_seed()

    def require_processes(self, world_size: int) -> None:
        """ValueError where the images of a step cannot be shared among so many processes: asked before they start."""
        share(self.batch_size, world_size)

    def split(self, num_images: int) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the validation images."""
        order = torch.randperm(num_images, generator=Generator().manual_seed(SPLIT_SEED), device="cpu")
        num_val = max(1, round(self.val_fraction * num_images))
        return order[num_val:], order[:num_val]

    def train_loader(self, num_images: int, fetch: Fetch, *, advice: str) -> Loader:
        """Shuffled batches, each epoch others, from where the run stopped in its epoch."""
        return self._loader(num_images, fetch, self.seed, advice)

    def eval_loader(self, num_images: int, fetch: Fetch) -> Loader:
        """Batches in order, each image once."""
        return self._loader(num_images, fetch, None, "")

    def training_sample(self, num_images: int) -> Iterator[Batch]:
        """The first `num_images` that this epoch trains on, once more: whole batches, this process's share, not mixed.

        Beside whatever the training loader is about, and with workers of its own.
        """
        loader, trainer = self.train_dataloader(), self.trainer
        assert trainer is not None
        epoch = loader.epoch()
        number = min(-(-num_images // self.batch_size), int(trainer.num_training_batches))
        return loader.fetch(loader.indices(epoch)[:number], epoch)

    def names_of_batch(self, number: int) -> list[str]:
        """The images of this process's training batch of this `number` in the epoch at hand."""
        loader = self.trainer.train_dataloader if self.trainer else None
        assert isinstance(loader, Loader)
        return [self.name_of(position) for position in loader.indices(loader.epoch())[number].tolist()]

    def name_of(self, position: int) -> str:
        """What to call the training image at this `position` among those that are not held out."""
        raise NotImplementedError

    @property
    def classes(self) -> list[str]:
        """The names of the labels, once the data are set up."""
        raise NotImplementedError

    def preprocessing(self) -> dict[str, Any]:
        """How an image that is to be classified becomes an input (models/preprocessing.py), as plain values."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint says of the images: whoever loads the network needs no more than that."""
        return {"classes": self.classes, "preprocessing": self.preprocessing()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """ValueError where a checkpoint was trained on other classes."""
        classes, trained = self.classes, state_dict["classes"]
        if classes != trained:
            likeness = explain_likeness(trained, classes, ("the checkpoint", str(self.root)))
            raise ValueError(
                f"the checkpoint was trained on {len(trained)} classes, from {trained[0]} to {trained[-1]}; "
                f"{self.root} has other ones{': ' * bool(likeness)}{likeness}"
            )

    def train_dataloader(self) -> Loader:
        raise NotImplementedError

    # The trainer's own counts, kept in its checkpoints, say where a run is. Batches to overfit are always the same.
    def _loader(self, num_images: int, fetch: Fetch, seed: int | None, advice: str) -> Loader:
        trainer = self.trainer
        assert trainer is not None
        return Loader(
            num_images,
            self.batch_size,
            fetch,
            process=Process(trainer.global_rank, trainer.world_size),
            seed=seed,
            epoch=lambda: 0 if trainer.overfit_batches else trainer.current_epoch,  # pyright: ignore[reportAttributeAccessIssue]
            done=lambda: 0 if seed is None else trainer.fit_loop.batch_idx + 1,
            mix=self.mix if seed is not None else None,
            advice=advice,
        )

"""Which images make up which batch: a function of seed, epoch and position, so that a run resumes anywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Fetch = Callable[[Sequence[Tensor], int], Iterator[Batch]]


@dataclass(frozen=True)
class Process:
    """This process among those that share the data."""

    rank: int
    world_size: int


class Draw(IntEnum):
    """What random numbers are for: each use has its own, whatever the others draw."""

    ORDER = 0
    CROP = 1
    FLIP = 2
    MIX = 3


def derive_seed(seed: int, draw: Draw, *place: int) -> int:
    """A 64-bit seed for one use of the run's `seed` at one place, e.g. the epoch and the index of an image."""
    return int(np.random.SeedSequence((seed, draw, *place)).generate_state(1, np.uint64)[0])


class Loader:
    """The batches of one epoch after the other, resumable at any batch by its number.

    In training (`seed` given) each epoch is a new permutation, cut to whole batches of `batch_size` images over all
    processes; in evaluation (`seed` None) each image comes exactly once: nothing is padded, so the last batches of
    two processes may differ in size or number. Processes take every world_size-th image. `fetch` turns the
    indices of the remaining batches, and the epoch, into batches; `mix` changes a batch, given a seed. `waited`:
    seconds spent on both. `advice`: how to shorten that.
    Raises ValueError where the batches do not fit the processes or the images.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        fetch: Fetch,
        *,
        process: Process,
        seed: int | None,
        epoch: Callable[[], int],
        mix: Callable[[Batch, int], Batch] | None = None,
        advice: str,
    ) -> None:
        self.num_images, self.fetch, self.process = num_images, fetch, process
        self.seed, self.epoch, self.mix, self.advice = seed, epoch, mix, advice
        self.batch_size = batch_size if seed is None else _share(batch_size, num_images, process.world_size)
        self.first, self.delivered, self.waited = 0, 0, 0.0

    def __len__(self) -> int:
        if self.seed is not None:
            return self.num_images // (self.batch_size * self.process.world_size)
        local = len(range(self.process.rank, self.num_images, self.process.world_size))
        return -(-local // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        first, self.first = self.first, 0
        epoch = self.epoch()
        start = perf_counter()
        for number, batch in enumerate(self.fetch(self.indices(epoch)[first:], epoch), first + 1):
            if self.mix and self.seed is not None:
                batch = self.mix(batch, derive_seed(self.seed, Draw.MIX, epoch, number))
            self.waited += perf_counter() - start
            self.delivered = number
            yield batch
            start = perf_counter()

    def indices(self, epoch: int) -> Sequence[Tensor]:
        """The images of this process's batches in `epoch`."""
        if self.seed is None:
            order = torch.arange(self.num_images, device="cpu")
        else:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, Draw.ORDER, epoch))
            order = torch.randperm(self.num_images, generator=generator, device="cpu")
        return order[self.process.rank :: self.process.world_size].split(self.batch_size)[: len(self)]

    def state_dict(self) -> dict[str, int]:
        return {"delivered": self.delivered}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.first = state_dict["delivered"] % len(self)


def _share(batch_size: int, num_images: int, world_size: int) -> int:
    """The images of a batch that fall to one process."""
    local_size, rest = divmod(batch_size, world_size)
    if rest or local_size < 1:
        raise ValueError(f"data.batch_size={batch_size} must be a multiple of the {world_size} processes")
    if batch_size > num_images:
        raise ValueError(f"data.batch_size={batch_size}: there are only {num_images} training images")
    return local_size

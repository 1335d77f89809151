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
    """The batches of one epoch after the other, from any of them on.

    In training (`seed` given) each epoch is a new permutation, cut to whole batches of `batch_size` images over all
    processes. In evaluation (`seed` None) each image comes exactly once: nothing is padded, the last batches of
    two processes may differ in size, and all have the same number of them, as what processes do together asks for:
    where the images do not suffice, the last batch is empty. Processes take every world_size-th image.
    `epoch` and `done` are asked when an epoch starts: its number, and how many of its batches a run that goes on
    has behind it. `fetch` turns the indices of the remaining batches, and the epoch, into batches; `mix` changes a
    batch, given a seed. `waited`: seconds spent on both. `advice`: how to shorten that.
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
        done: Callable[[], int],
        mix: Callable[[Batch, int], Batch] | None = None,
        advice: str,
    ) -> None:
        self.num_images, self.fetch, self.process = num_images, fetch, process
        self.seed, self.epoch, self.done, self.mix, self.advice = seed, epoch, done, mix, advice
        if seed is None:
            self.batch_size = max(1, batch_size // process.world_size)
        else:
            self.batch_size = share(batch_size, process.world_size)
            if batch_size > num_images:
                raise ValueError(f"data.batch_size={batch_size}: there are only {num_images} training images")
        self.waited = 0.0

    def __len__(self) -> int:
        whole, rest = divmod(self.num_images, self.batch_size * self.process.world_size)
        return whole + (self.seed is None and rest > 0)

    def __iter__(self) -> Iterator[Batch]:
        epoch, number = self.epoch(), self.done()
        start = perf_counter()
        for batch in self.fetch(self.indices(epoch)[number:], epoch):
            number += 1
            if self.mix and self.seed is not None:
                batch = self.mix(batch, derive_seed(self.seed, Draw.MIX, epoch, number))
            self.waited += perf_counter() - start
            yield batch
            start = perf_counter()
        for _ in range(number, len(self)):
            yield torch.empty(0), torch.empty(0, dtype=torch.int64)

    def indices(self, epoch: int) -> Sequence[Tensor]:
        """The images of this process's batches in `epoch`."""
        if self.seed is None:
            order = torch.arange(self.num_images, device="cpu")
        else:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, Draw.ORDER, epoch))
            order = torch.randperm(self.num_images, generator=generator, device="cpu")
        local = order[self.process.rank :: self.process.world_size]
        return local.split(self.batch_size)[: len(self)] if len(local) else ()


def share(batch_size: int, world_size: int) -> int:
    """The images of a batch that fall to one process; ValueError where they are not as many for each."""
    local_size, rest = divmod(batch_size, world_size)
    if rest:
        nearest = max(1, round(batch_size / world_size)) * world_size
        raise ValueError(
            f"data.batch_size={batch_size} must be a multiple of the {world_size} processes; nearest: {nearest}"
        )
    return local_size

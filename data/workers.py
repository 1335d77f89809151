"""Worker processes that read and decode batches of images."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.bad_images import BadImages
from data.crops import CentreCrop
from data.decode import BadImageError
from data.loader import Batch
from data.samples import NONE, EvalSamples, Request, TrainingSamples, read

Samples = TrainingSamples | EvalSamples
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class DecodedBatches:
    """Batches of `samples` as uint8 (N, S, S, 3), S = size(epoch), decoded by `num_workers` processes that stay.

    Called as a Fetch (data/loader.py). Unreadable images are told to `bad`.
    """

    def __init__(
        self, samples: Samples, size: Callable[[int], int], bad: BadImages, *, num_workers: int, pin_memory: bool
    ) -> None:
        self.samples, self.size, self.bad = samples, size, bad
        self.plan: list[list[Request]] = []
        self.loader = DataLoader(
            samples,
            batch_sampler=self.plan,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its own: the network's random numbers stay what they are
        )

    def __call__(self, batches: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        pixels = self.size(epoch)
        self.plan[:] = [[Request(position, epoch, pixels) for position in batch.tolist()] for batch in batches]
        with _signals_held():
            decoded = iter(self.loader)  # starts the workers, unless they are there
        for images, labels, replaced in decoded:
            if (replaced != NONE).any():
                self.bad.add(_explain(self.samples, replaced[replaced != NONE].tolist()))
                images, labels = images[labels != NONE], labels[labels != NONE]
            if len(labels):
                yield images, labels

    def close(self) -> None:
        """End the processes now.

        The garbage collector may end their queues before them, and then waits 5 seconds for each of them.
        """
        workers: Any = self.loader._iterator
        if workers is not None:
            workers._shutdown_workers()  # PyTorch has no public name for it
            self.loader._iterator = None


@contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that are started inside never see the signals that ask a run to stop: its own processes end them.

    Ctrl-C reaches all processes of a terminal, and Slurm's signals all of a job.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _explain(samples: Samples, positions: list[int]) -> Iterator[tuple[str, str]]:
    """Names of unreadable images, each with the reason, found by trying once more."""
    for position in positions:
        number = int(samples.index[position])
        reason = "readable at the second attempt"
        try:
            CentreCrop(1.0)(read(samples.images, number), 32)
        except BadImageError as error:
            reason = str(error)
        yield samples.images.name(number), reason

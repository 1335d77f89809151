"""Worker processes that read and decode batches of images."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.bad_images import BadImages
from data.crops import CentreCrop
from data.decode import BadImageError
from data.loader import Batch, Fetch
from data.samples import NONE, EvalSamples, Request, TrainingSamples, read

Samples = TrainingSamples | EvalSamples


def decoded_batches(
    samples: Samples, size: Callable[[int], int], bad: BadImages, *, num_workers: int, pin_memory: bool
) -> Fetch:
    """Batches of `samples` as uint8 (N, S, S, 3), S = size(epoch), decoded by `num_workers` processes that stay.

    Unreadable images are told to `bad`.
    """
    plan: list[list[Request]] = []
    loader = DataLoader(
        samples,
        batch_sampler=plan,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its own: the network's random numbers stay what they are
    )

    def fetch(batches: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        pixels = size(epoch)
        plan[:] = [[Request(position, epoch, pixels) for position in batch.tolist()] for batch in batches]
        for images, labels, replaced in loader:
            if (replaced != NONE).any():
                bad.add(_explain(samples, replaced[replaced != NONE].tolist()))
                images, labels = images[labels != NONE], labels[labels != NONE]
            if len(labels):
                yield images, labels

    return fetch


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

"""Run a large batch some images at a time, where that is faster: what a layer writes is then in cache for the next.

A network with few multiply-adds is soon bound by memory. One image of ResNet-50 makes tensors of 3 MB, a batch of eight
such of 26 MB, which do not stay in cache.
"""

from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

ROUNDS = 3
WORTH = 0.97  # of the time of larger slices: less gain may be chance


class Slices(nn.Module):
    """What `net` makes of a batch (N, ...), from `size` images at a time; it returns one tensor, images first."""

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net, self.size = net, size

    def forward(self, images: Tensor) -> Tensor:
        if len(images) <= self.size:
            return self.net(images)
        return torch.cat([self.net(part) for part in images.split(self.size)])


def in_slices(net: nn.Module, images: Tensor) -> Slices:
    """`net` in slices of the size that takes the least time for `images`: all, half, a quarter of them, and so on.

    Give it the batch size and the number of threads that the network will run with: the choice depends on both. The
    larger of two sizes is taken up to a difference that may be chance.
    """
    tried = [Slices(net, len(images) >> halvings) for halvings in range(max(1, len(images).bit_length()))]
    seconds = [_seconds(slices, images) for slices in tried]
    best = 0
    for i, taken in enumerate(seconds):
        if taken < WORTH * seconds[best]:
            best = i
    return tried[best]


def _seconds(net: nn.Module, images: Tensor) -> float:
    """Median of a few runs after one to warm up."""
    rounds = []
    with torch.inference_mode():
        for _ in range(1 + ROUNDS):
            start = perf_counter()
            net(images)
            rounds.append(perf_counter() - start)
    return median(rounds[1:])

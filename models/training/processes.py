"""What the processes of a run do together; in a run of one, none of it does anything."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def together() -> bool:
    """Whether there are other processes."""
    return number_of_processes() > 1


def number_of_processes() -> int:
    """1 where there is no group of processes."""
    available = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if available else 1


def sum_over_processes(sums: Tensor) -> None:
    """Add up `sums` over all processes, in place."""
    if together():
        torch.distributed.all_reduce(sums)


def mean_over_processes(values: Tensor) -> None:
    """The mean of the floating-point `values` over all processes, in place; the same bits in each."""
    if together():
        torch.distributed.all_reduce(values)
        values /= number_of_processes()


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the `tensors` of the first, in place."""
    if together():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


def gather_images(images: Tensor) -> Tensor:
    """The `images` (N, C, H, W) of all processes, in the order in which one process would have them.

    Each process has every world_size-th image of a step (data/loader.py), as many as each other one.
    """
    if not together():
        return images
    parts = [torch.empty_like(images) for _ in range(number_of_processes())]
    torch.distributed.all_gather(parts, images)
    return torch.stack(parts, 1).flatten(0, 1)


def gather(value: T) -> list[T]:
    """The `value` of each process, by rank, in all of them."""
    values = [value]
    if together():
        values *= number_of_processes()
        torch.distributed.all_gather_object(values, value)
    return values

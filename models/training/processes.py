"""What the processes of a run do together; in a run of one, none of it does anything."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def together() -> bool:
    """Whether there are other processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def sum_over_processes(sums: Tensor) -> None:
    """Add up `sums` over all processes, in place."""
    if together():
        torch.distributed.all_reduce(sums)


def mean_over_processes(values: Tensor) -> None:
    """The mean of the floating-point `values` over all processes, in place; the same bits in each."""
    if together():
        torch.distributed.all_reduce(values)
        values /= torch.distributed.get_world_size()


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the `tensors` of the first, in place."""
    if together():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


def gather(value: T) -> list[T]:
    """The `value` of each process, by rank, in all of them."""
    values = [value]
    if together():
        values *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value)
    return values

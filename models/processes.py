"""Sums over all training processes."""

import torch
from torch import Tensor


def sum_over_processes(sums: Tensor) -> None:
    """Add up `sums` over all processes, in place; in a run of one process it stays as it is."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)

"""What a backbone costs, counted without computing anything."""

from collections.abc import Callable

import torch
from torch import nn

from models.cost import count


def counted(backbone: Callable[..., nn.Module], input_size: int, **knobs) -> tuple[int, int]:
    """Parameters and MACs of `backbone(input_size=..., **knobs)` for one colour image of that size."""
    with torch.device("meta"):
        cost = count(backbone(input_size=input_size, **knobs), (3, input_size, input_size))
    return cost.params, cost.macs

"""Weights in the layout of a kernel, made once and kept as long as the weight they were made of."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class PackedWeights:
    """weight -> the packed weight, made again when the weight is written to or another layout is asked for.

    PyTorch tells of writes by a version number, except of those through `weight.data` (which are overlooked) and of
    those to tensors made in inference mode (which are packed anew in each call, slowly but never stale).
    """

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()  # weight -> what it was packed for, the packed weight, its memory

    def of(self, weight: Tensor, layout: tuple, pack: Callable[[], Any]) -> Any:
        """The result of `pack()`, perhaps from an earlier call; it depends on `weight` and `layout` alone."""
        if weight.is_inference():
            return pack()
        state = (weight.data_ptr(), weight._version, layout)
        found = self._kept.get(weight)
        if found is None or found[0] != state:
            # Its memory is held, so that no later weight can stand at the same address.
            found = self._kept[weight] = state, pack(), weight.detach()
        return found[1]

    def __len__(self) -> int:
        return len(self._kept)

"""Max pooling of a deployed network: max_pool.c, compiled on first use, for float32 on CPUs; PyTorch's elsewhere.

PyTorch's finds the places of the maxima with them, whether they are asked for or not, and takes twice as long.
"""

import ctypes
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from .compilation import Library
from .unit import is_only_computed

library = Library(Path(__file__).with_name("max_pool.c"), "max poolings")
SIZES = ("n", "c", "h", "w", "ho", "wo", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw", "threads")


class _Pool(ctypes.Structure):
    """The struct of the same name in max_pool.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "out")),
        *((name, ctypes.c_int64) for name in SIZES),
    )


class MaxPool(nn.Module):
    """`pool`, which returns no indices: x (N, C, H, W) -> (N, C, H', W'), fastest where x lies channels-last."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool
        window = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        self.kernel, self.stride, self.padding, self.dilation = map(_pair, window)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not self._can_run(x):
            return self.pool(x)
        shape = (*x.shape[:2], *map(self._outputs, (0, 1), x.shape[2:]))
        out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        window = (*self.kernel, *self.stride, *self.padding, *self.dilation)
        sizes = (*x.shape, *shape[2:], *window, torch.get_num_threads())
        if library().max_pool(ctypes.byref(_Pool(x.data_ptr(), out.data_ptr(), *sizes))):
            raise MemoryError(f"no memory for a pooling of {tuple(x.shape)}")
        return out

    def _can_run(self, x: Tensor) -> bool:
        return (
            is_only_computed(x)
            and x.dim() == 4
            and x.dtype == torch.float32
            and x.numel() > 0
            and x.is_contiguous(memory_format=torch.channels_last)
            and not (torch.is_grad_enabled() and x.requires_grad)
            and all(2 * self.padding[i] <= self.kernel[i] and self._outputs(i, x.shape[2 + i]) > 0 for i in (0, 1))
            and library() is not None
        )

    def _outputs(self, dim: int, size: int) -> int:
        """The last window begins inside the image or the padding before it, as in PyTorch."""
        kernel, stride, padding = self.kernel[dim], self.stride[dim], self.padding[dim]
        steps = (size + 2 * padding - self.dilation[dim] * (kernel - 1) - 1) / stride
        if not self.pool.ceil_mode:
            return math.floor(steps) + 1
        outputs = math.ceil(steps) + 1
        return outputs - 1 if (outputs - 1) * stride >= size + padding else outputs


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])

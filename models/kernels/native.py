"""The native CPU kernel: gated_conv.c, compiled on first use (compilation.py) and called through ctypes.

Where that cannot be, the operator runs as plain PyTorch, and one line of the log says why.
"""

import ctypes
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .arguments import Arguments
from .compilation import Library
from .packed import PackedWeights

SOURCE = Path(__file__).with_name("gated_conv.c")
PANEL = 16  # output channels that the kernel computes together; gated_conv.c is compiled with it
library = Library(SOURCE, "gated convolutions", PANEL=PANEL)
POINTERS = ("x", "weight", "bias", "gate", "scale", "shift", "residual", "out")
SIZES = (
    *("n", "c", "h", "w", "t", "ho", "wo", "groups"),
    *("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"),
    *("gkh", "gkw", "gph", "gpw", "inner_relu", "relu", "threads"),
)


class _Conv(ctypes.Structure):
    """The struct of the same name in gated_conv.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in POINTERS),
        *((name, ctypes.c_int64) for name in SIZES),
        ("gate_bias", ctypes.c_float),
        ("gate_ceiling", ctypes.c_float),
    )


def can_run(a: Arguments) -> bool:
    """Whether the kernel takes these arguments: float32 on a machine with a compiler."""
    return all(tensor.dtype == torch.float32 for tensor in a.tensors) and library() is not None


def gated_conv2d(a: Arguments) -> Tensor:
    """The operator of models/kernels/gated_conv.py, for tensors that `can_run` accepts."""
    # Of x's own type, not the process's default one, which set_default_dtype changes.
    out = torch.empty(a.output_shape, dtype=a.x.dtype, device=a.x.device, memory_format=torch.channels_last)
    if out.numel() == 0:
        return out
    gate = a.gate_weight.permute(0, 2, 3, 1)  # 1, k, l, C
    vectors = [None if vector is None else vector.contiguous() for vector in (a.bias, gate, a.scale, a.shift)]
    x = a.x.contiguous(memory_format=torch.channels_last)
    residual = None if a.residual is None else a.residual.contiguous(memory_format=torch.channels_last)
    packed = _packed.of(a.weight, (a.groups,), lambda: pack(a.weight, a.groups))
    tensors = (x, packed, *vectors, residual, out)  # in the order of POINTERS
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    images = (*x.shape, *out.shape[1:], a.groups)  # what follows is in the order of SIZES
    windows = (*a.weight.shape[2:], *a.stride, *a.padding, *a.dilation, *a.gate_weight.shape[2:], *a.gate_padding)
    rest = (a.inner_relu, a.relu, torch.get_num_threads(), a.gate_bias.item(), a.gate_ceiling)
    if library().gated_conv(ctypes.byref(_Conv(*pointers, *images, *windows, *rest))):
        raise MemoryError(f"no memory for a gated convolution of {tuple(x.shape)}")
    return out


_packed = PackedWeights()


def pack(weight: Tensor, groups: int) -> Tensor:
    """(T, C / groups, k, l) -> (groups, panels, k l C / groups, PANEL), with zeros for channels that fill no panel."""
    rows = weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (groups, -1))  # groups, T / groups, k l C / groups
    rows = F.pad(rows, (0, 0, 0, -rows.shape[1] % PANEL))
    return rows.unflatten(1, (-1, PANEL)).transpose(2, 3).contiguous()

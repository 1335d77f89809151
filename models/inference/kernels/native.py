"""The native CPU kernel: gated_conv.c, compiled on first use (compilation.py) and called through ctypes.

Where that cannot be, the operator runs as plain PyTorch, and one line of the log says why.
"""

import ctypes
import functools
import logging
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .compilation import load
from .packed import PackedWeights

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("gated_conv.c")
PANEL = 16  # output channels that the kernel computes together; also in gated_conv.c
POINTERS = ("x", "weight", "bias", "gate", "scale", "shift", "residual", "out")
SIZES = (
    *("n", "h", "w", "c", "ho", "wo", "t", "groups"),
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


def can_run(arguments: tuple) -> bool:
    """Whether the kernel takes these arguments of gated_conv2d: float32 on a machine with a compiler."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    return all(tensor.dtype == torch.float32 for tensor in tensors) and function() is not None


def gated_conv2d(x: Tensor, weight: Tensor, *arguments: Any) -> Tensor:
    """See models/inference/kernels/gated_conv.py, whose arguments it takes."""
    bias, gate_weight, gate_bias, scale, shift, residual, *geometry, gate_ceiling, inner_relu, relu = arguments
    stride, padding, dilation, groups, gate_padding = geometry
    n, c, h, w = x.shape
    t, _, kh, kw = weight.shape
    ho = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    wo = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    # Of its own type, not the process's default one, which set_default_dtype changes.
    out = torch.empty((n, t, ho, wo), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if out.numel() == 0:
        return out
    gate = gate_weight.permute(0, 2, 3, 1)  # 1, k, l, C
    vectors = [None if vector is None else vector.contiguous() for vector in (bias, gate, scale, shift)]
    images = [None if image is None else image.contiguous(memory_format=torch.channels_last) for image in (x, residual)]
    packed = _packed.of(weight, (groups,), lambda: pack(weight, groups))
    tensors = (images[0], packed, *vectors, images[1], out)  # in the order of POINTERS
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    sizes = (n, h, w, c, ho, wo, t, groups, kh, kw, *stride, *padding, *dilation, *gate_weight.shape[2:], *gate_padding)
    rest = (inner_relu, relu, torch.get_num_threads(), gate_bias.item(), gate_ceiling)
    run = function()
    assert run is not None
    if run(ctypes.byref(_Conv(*pointers, *sizes, *rest))):
        raise MemoryError(f"no memory for a gated convolution of {tuple(x.shape)}")
    return out


_packed = PackedWeights()


def pack(weight: Tensor, groups: int) -> Tensor:
    """(T, C / groups, k, l) -> (groups, panels, k l C / groups, PANEL), with zeros for channels that fill no panel."""
    rows = weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (groups, -1))  # groups, T / groups, k l C / groups
    rows = F.pad(rows, (0, 0, 0, -rows.shape[1] % PANEL))
    return rows.unflatten(1, (-1, PANEL)).transpose(2, 3).contiguous()


def function() -> Any:
    """The compiled function, or None where there is none to be had."""
    with _once:
        return _function()


_once = threading.Lock()


@functools.cache
def _function() -> Any:
    try:
        return load(SOURCE).gated_conv
    except OSError as failure:
        log.warning(f"gated convolutions run as plain PyTorch, slower: {failure}")
        return None

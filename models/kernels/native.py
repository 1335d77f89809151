"""The native CPU kernel: gated_conv.c compiled on first use by the machine's own compiler, called through ctypes.

The compiled file is kept in $XDG_CACHE_HOME/cheapconv (~/.cache/cheapconv) under a hash of the source, the compiler
and the CPU, written whole or not at all, so that several processes may compile at once. Where the folder cannot be
written, each process compiles for itself; where there is no compiler (`cc`, or what the environment variable CC
names), the operator runs as plain PyTorch and one line of the log says so.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("gated_conv.c")
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC")
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
    """See models/kernels/gated_conv.py, whose arguments it takes."""
    bias, gate_weight, gate_bias, scale, shift, residual, *geometry, gate_ceiling, inner_relu, relu = arguments
    stride, padding, dilation, groups, gate_padding = geometry
    prepared = _prepare(weight, bias, gate_weight, scale, shift, groups)
    x = x.contiguous(memory_format=torch.channels_last)
    n, c, h, w = x.shape
    t, _, kh, kw = weight.shape
    ho = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    wo = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = torch.empty((n, t, ho, wo), memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    if out.numel() == 0:
        return out
    pointers = [x.data_ptr(), *prepared.pointers, residual.data_ptr() if residual is not None else None, out.data_ptr()]
    sizes = (n, h, w, c, ho, wo, t, groups, kh, kw, *stride, *padding, *dilation, *gate_weight.shape[2:], *gate_padding)
    rest = (inner_relu, relu, torch.get_num_threads(), gate_bias.item(), gate_ceiling)
    run = function()
    assert run is not None
    if run(ctypes.byref(_Conv(*pointers, *sizes, *rest))):
        raise MemoryError(f"no memory for a gated convolution of {tuple(x.shape)}")
    return out


@dataclass(frozen=True)
class _Prepared:
    """Parameters as the kernel reads them, and of which tensors in which state they were made."""

    state: tuple
    tensors: tuple[Tensor | None, ...]
    pointers: tuple[int | None, ...]


_prepared = WeakTensorKeyDictionary()


def _prepare(
    weight: Tensor, bias: Tensor | None, gate_weight: Tensor, scale: Tensor | None, shift: Tensor | None, groups: int
) -> _Prepared:
    """Packed once for each weight, and again when a parameter was replaced or written to."""
    state = tuple(_state(tensor) for tensor in (weight, bias, gate_weight, scale, shift))
    found = _prepared.get(weight)
    if found is None or found.state != state:
        gate = gate_weight.permute(0, 2, 3, 1).contiguous()  # 1, k, l, C
        tensors = (pack(weight, groups), _padded(bias), gate, _padded(scale), _padded(shift))
        pointers = tuple(tensor.data_ptr() if tensor is not None else None for tensor in tensors)
        found = _Prepared(state, tensors, pointers)
        _prepared[weight] = found
    return found


def _state(tensor: Tensor | None) -> tuple[int, int] | None:
    if tensor is None:
        return None
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def pack(weight: Tensor, groups: int) -> Tensor:
    """(T, C / groups, k, l) -> (groups, panels, k l C / groups, PANEL), with zeros for channels that fill no panel."""
    rows = weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (groups, -1))  # groups, T / groups, k l C / groups
    rows = F.pad(rows, (0, 0, 0, -rows.shape[1] % PANEL))
    return rows.unflatten(1, (-1, PANEL)).transpose(2, 3).contiguous()


def _padded(vector: Tensor | None) -> Tensor | None:
    return F.pad(vector, (0, PANEL)).contiguous() if vector is not None else None


@functools.cache
def function() -> Any:
    """The compiled function, or None where there is no compiler that can make it."""
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.CalledProcessError) as failure:
        log.warning(f"gated convolutions run as plain PyTorch, slower: {_reason(failure)}")
        return None
    return library.gated_conv


def _reason(failure: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(failure, subprocess.CalledProcessError):
        lines = failure.stderr.strip().splitlines()
        return f"{failure.cmd[0]} cannot compile {SOURCE.name}" + (f" ({lines[0]})" if lines else "")
    return f"no C compiler ({failure}); install gcc or name one in the environment variable CC"


def _compiled() -> Path:
    compiler = os.environ.get("CC", "cc")
    identity = [SOURCE.read_text(), compiler, *FLAGS, _cpu()]
    name = f"gated_conv-{hashlib.sha256(' '.join(identity).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cheapconv"
    if (folder / name).is_file():
        return folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="cheapconv-"))
    _compile(compiler, folder / name)
    return folder / name


def _compile(compiler: str, target: Path) -> None:
    """Under another name first: another process sees the whole file or none."""
    partial = target.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(partial)]
    try:
        subprocess.run([*command, "-fopenmp"], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError:  # without OpenMP it computes with one thread
        subprocess.run(command, check=True, capture_output=True, text=True)
    partial.replace(target)


def _cpu() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    first = info.read_text().split("\n\n")[0].splitlines()
    return "\n".join(
        line for line in first if line.startswith(("vendor_id", "cpu family", "model", "flags", "CPU ", "Features"))
    )

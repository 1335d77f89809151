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
import shlex
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.kernels.packed import PackedWeights

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("gated_conv.c")
# Without -fno-ivopts gcc keeps a pointer for every stream of the inner loops, more than there are registers.
FLAGS = ("-O3", "-fno-ivopts", "-march=native", "-std=gnu11", "-shared", "-fPIC")
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
    """The compiled function, or None where there is no compiler that can make it."""
    with _once:
        return _function()


_once = threading.Lock()


@functools.cache
def _function() -> Any:
    command = [*(shlex.split(os.environ.get("CC", "")) or ["cc"]), *FLAGS, str(SOURCE)]
    try:
        return _load(command).gated_conv
    except (OSError, subprocess.CalledProcessError) as failure:
        log.warning(
            f"gated convolutions run as plain PyTorch, slower: {command[0]} does not compile {SOURCE.name}"
            f"{_first_line(failure)}; install gcc or clang, or name one in the environment variable CC"
        )
        return None


def _first_line(failure: OSError | subprocess.CalledProcessError) -> str:
    said = failure.stderr if isinstance(failure, subprocess.CalledProcessError) else str(failure)
    return f" ({said.strip().splitlines()[0]})" if said.strip() else ""


def _load(command: list[str]) -> ctypes.CDLL:
    """The library, from the cache if it is there and whole."""
    identity = " ".join([SOURCE.read_text(), *command, _cpu()])
    name = f"gated_conv-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    folder = _cache()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="cheapconv-") as private:
            return ctypes.CDLL(str(_compile(command, Path(private) / name)))
    try:
        return ctypes.CDLL(str(folder / name))
    except OSError:
        return ctypes.CDLL(str(_compile(command, folder / name)))


def _cache() -> Path | None:
    """The folder of compiled files, None where it cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cheapconv"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        return None


def _compile(command: list[str], target: Path) -> Path:
    """Under another name first: another process sees the whole file or none."""
    with tempfile.TemporaryDirectory(dir=target.parent) as private:
        partial = str(Path(private) / target.name)
        try:
            subprocess.run([*command, "-o", partial, "-fopenmp"], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError:  # without OpenMP it computes with one thread
            subprocess.run([*command, "-o", partial], check=True, capture_output=True, text=True)
        return Path(partial).replace(target)


def _cpu() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    first = info.read_text().split("\n\n")[0].splitlines()
    return "\n".join(
        line for line in first if line.startswith(("vendor_id", "cpu family", "model", "flags", "CPU ", "Features"))
    )

"""The native CPU kernel of cheapconv::unit: unit.c, compiled on first use (compilation.py) and called through ctypes.

Where that cannot be, the operator runs as plain PyTorch, and one line of the log says why.
"""

import ctypes
import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .arguments import UnitArguments
from .compilation import Library
from .packed import PackedWeights

SOURCE = Path(__file__).with_name("unit.c")
library = Library(SOURCE, "depthwise and subdivided convolutions")
POINTERS = (
    *("x", "depthwise", "depthwise_bias", "weight", "bias", "inner_residual", "scale", "shift", "residual", "out"),
    *("panels", "runs"),
)
SIZES = (
    *("n", "c", "h", "w", "t", "ho", "wo", "multiplier", "num_panels"),
    *("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw", "clamps", "inner_relu", "relu", "threads"),
)
NARROW = 1.1  # a panel of one vector takes so much longer for each multiplication, because it shares no loads


class _Unit(ctypes.Structure):
    """The struct of the same name in unit.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in POINTERS),
        *((name, ctypes.c_int64) for name in SIZES),
        ("ceiling", ctypes.c_float),
    )


class Packed(NamedTuple):
    """A weight as unit.c reads it: its panels' weights one behind the other, the panels, their runs of inputs."""

    weight: Tensor
    panels: Tensor  # (panels, 5): first weight, first output, vectors, first run, run behind the last
    runs: Tensor  # (runs, 2): first input, how many


def can_run(a: UnitArguments) -> bool:
    """Whether the kernel takes these arguments: float32 on a machine with a compiler."""
    return all(tensor.dtype == torch.float32 for tensor in a.tensors) and library() is not None


def unit(a: UnitArguments, packed: Packed | None = None) -> Tensor:
    """The operator of models/kernels/unit.py, for tensors that `can_run` accepts; `packed` is a.weight."""
    out = torch.empty(a.output_shape, dtype=a.x.dtype, device=a.x.device, memory_format=torch.channels_last)
    if out.numel():
        own = _packed_weight(a) if packed is None else (packed, 1)
        _run(library().unit, a, *own, out)
    return out


def weight_gradient(a: UnitArguments, packed: Packed) -> Tensor:
    """The gradient of a weight, packed as `packed` is; a.residual is that of the output, and nothing is fused."""
    out = a.x.new_zeros(len(packed.weight))
    if a.x.numel():
        _run(library().weight_gradient, a, packed, 1, out, ctypes.c_int64(len(out)))
    return out


def _run(function: Any, a: UnitArguments, packed: Packed, multiplier: int, out: Tensor, *others: Any) -> None:
    x, inner_residual, residual = (
        None if tensor is None else tensor.contiguous(memory_format=torch.channels_last)
        for tensor in (a.x, a.inner_residual, a.residual)
    )
    assert x is not None
    arguments, _kept = _without_images(a, packed, multiplier)
    _set_images(arguments, x, inner_residual, residual, out)
    if function(ctypes.byref(arguments), *others):
        raise MemoryError(f"no memory for a convolution of {tuple(a.x.shape)}")


def _set_images(to: "_Unit", x: Tensor, inner_residual: Tensor | None, residual: Tensor | None, out: Tensor) -> None:
    to.x, to.out = x.data_ptr(), out.data_ptr()
    if inner_residual is not None:
        to.inner_residual = inner_residual.data_ptr()
    if residual is not None:
        to.residual = residual.data_ptr()


def _without_images(a: UnitArguments, packed: Packed, multiplier: int) -> tuple["_Unit", list[Tensor]]:
    """The arguments but for x, residuals and output, and the tensors that must live as long."""
    depthwise = depthwise_bias = None
    if a.depthwise is not None:
        depthwise = _packed.of(a.depthwise, (multiplier,), functools.partial(_by_set, a.depthwise, multiplier))
    if a.depthwise_bias is not None:
        depthwise_bias = a.depthwise_bias.reshape(-1, multiplier).T.contiguous()
    bias, scale, shift = (None if vector is None else vector.contiguous() for vector in (a.bias, a.scale, a.shift))
    named = {"depthwise": depthwise, "depthwise_bias": depthwise_bias, "bias": bias, "scale": scale, "shift": shift}
    given = {name: tensor for name, tensor in {**named, **packed._asdict()}.items() if tensor is not None}
    images = (*a.x.shape, *a.output_shape[1:], multiplier, len(packed.panels))
    window = (*a.kernel_size, *a.stride, *a.padding, *a.dilation)
    flags = (a.depthwise_ceiling is not None, a.inner_relu, a.relu, torch.get_num_threads())
    sizes = dict(zip(SIZES, (*images, *window, *flags), strict=True))
    pointers = {name: tensor.data_ptr() for name, tensor in given.items()}
    return _Unit(**pointers, **sizes, ceiling=a.depthwise_ceiling or 0), list(given.values())


class Prepared:
    """The operator for tensors like those of `a`, which `can_run` accepts: all else is worked out here, once.

    With the arguments of `unit` a small convolution takes less time than they do.
    """

    def __init__(self, a: UnitArguments) -> None:
        packed, multiplier = _packed_weight(a)
        arguments, self._kept = _without_images(a, packed, multiplier)
        self._arguments, self._run, self.output_shape = bytes(arguments), library().unit, a.output_shape

    def __call__(self, x: Tensor, inner_residual: Tensor | None, residual: Tensor | None) -> Tensor:
        """All three channels-last."""
        out = torch.empty(self.output_shape, dtype=x.dtype, memory_format=torch.channels_last)
        arguments = _Unit.from_buffer_copy(self._arguments)
        _set_images(arguments, x, inner_residual, residual, out)
        if self._run(ctypes.byref(arguments)):
            raise MemoryError(f"no memory for a convolution of {tuple(x.shape)}")
        return out


def _packed_weight(a: UnitArguments) -> tuple[Packed, int]:
    multiplier = 1 if a.depthwise is None else len(a.depthwise) // a.x.shape[1]
    return _packed.of(a.weight, (multiplier,), lambda: pack(a.weight, multiplier)), multiplier


_packed = PackedWeights()


def _by_set(filters: Tensor, multiplier: int) -> Tensor:
    """(b C, 1, k, l) -> (b, groups of channels, k l, channels).

    The last group holds the last channels, some of them again; where there are fewer than one group, zeros behind them.
    """
    lanes, taps = library().lanes(), math.prod(filters.shape[2:])
    sets = filters.reshape(-1, multiplier, taps).permute(1, 2, 0)  # b, k l, C
    sets = F.pad(sets, (0, max(0, lanes - sets.shape[2])))
    first = torch.arange(0, sets.shape[2], lanes).clamp(max=sets.shape[2] - lanes)
    return sets[:, :, first[:, None] + torch.arange(lanes)].transpose(1, 2).contiguous()


def pack(weight: Tensor, multiplier: int) -> Packed:
    """(T, b C, k, l) with zeros where an output does not see an input -> what the kernel multiplies."""
    lanes = library().lanes()
    taps = weight.unflatten(1, (-1, multiplier)).transpose(1, 2).flatten(1, 2).flatten(2).permute(2, 1, 0)
    seen = taps.any(0).T  # T, b C in the kernel's order; `taps` is k l, b C, T
    panels, runs, weights, at = [], [], [], 0
    for first, vectors in _panels(seen, lanes):
        outputs = slice(first, first + vectors * lanes)
        inputs = seen[outputs].any(0)
        own = F.pad(taps[:, inputs, outputs], (0, max(0, lanes - len(weight))))
        found = _runs(inputs)
        panels.append((at, first, vectors, len(runs), len(runs) + len(found)))
        runs += found
        weights.append(own.flatten())
        at += own.numel()
    return Packed(torch.cat(weights), torch.tensor(panels), torch.tensor(runs).reshape(-1, 2))


def _panels(seen: Tensor, lanes: int) -> list[tuple[int, int]]:
    """First output and number of vectors, one or two, of each panel; the last one may repeat some outputs."""
    num, panels, first = len(seen), [], 0
    while first < num:
        first = max(0, min(first, num - lanes))
        own, both = (int(seen[first : first + width].any(0).sum()) for width in (lanes, 2 * lanes))
        next_ = int(seen[first + lanes : first + 2 * lanes].any(0).sum())
        wide = first + 2 * lanes <= num and 2 * both <= NARROW * (own + next_)
        panels.append((first, 2 if wide else 1))
        first += 2 * lanes if wide else lanes
    return panels


def _runs(inputs: Tensor) -> list[tuple[int, int]]:
    """First and number of each run of neighbours that are set."""
    edges = torch.diff(F.pad(inputs.int(), (1, 1))).nonzero().flatten().tolist()
    return [(first, end - first) for first, end in zip(edges[::2], edges[1::2], strict=True)]

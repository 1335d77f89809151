"""A depthwise convolution and its projection, or a subdivided convolution, of a deployed network, with what follows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..geometry import ConvGeometry
from ..macs import conv_macs
from .arguments import UnitArguments
from .fused_conv import Add, activate
from .unit import is_only_computed, portable, unit
from .unit_native import Prepared, can_run


class Depthwise(NamedTuple):
    """What stands before a projection: filters (b C, 1, k, l), a bias (b C,), a clamp to 0 and `ceiling` if any."""

    weight: Tensor
    bias: Tensor | None
    ceiling: float | None


class Step(NamedTuple):
    """What follows a convolution, once or twice: a scale and a shift (T,), an addition, a clamp to 0 and `ceiling`.

    The ceiling of a ReLU is infinite; without any it is None. Units, gates and additions take no other.
    """

    affine: tuple[Tensor, Tensor] | None
    add: Add | None
    ceiling: float | None

    @property
    def relu(self) -> bool:
        return self.ceiling == math.inf


class FusedUnit(nn.Module):
    """The unit that models/kernels/unit.py defines, with the additions that a network makes.

    Shapes: x (N, C, H, W), and for each step that adds one more tensor (N, T, H', W') -> (N, T, H', W'). `weight` is
    (T, b C, 1, 1) behind a depthwise convolution, else (T, C, k, l), and `geometry` that of the first of the two;
    `connections` are those of its weights that are not zero by construction. Weight and bias have taken in the scale
    and the shift of the first step.
    """

    depthwise: Tensor | None
    depthwise_bias: Tensor | None
    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        geometry: ConvGeometry,
        depthwise: Depthwise | None,
        weight: Tensor,
        bias: Tensor | None,
        connections: int,
        steps: tuple[Step, Step],
    ) -> None:
        super().__init__()
        filters, depthwise_bias, self.ceiling = depthwise or (None, None, None)
        scale, shift = steps[1].affine or (None, None)
        given = {"depthwise": filters, "depthwise_bias": depthwise_bias, "weight": weight, "bias": bias}
        for name, tensor in (given | {"scale": scale, "shift": shift}).items():
            self.register_parameter(name, None if tensor is None else nn.Parameter(tensor, requires_grad=False))
        self.adds = [step.add for step in steps]
        self.relus = [step.relu for step in steps]
        self.stride, self.padding, self.dilation = (
            list(getattr(geometry, n)) for n in ("stride", "padding", "dilation")
        )
        self.in_channels, self.connections = geometry.in_channels, connections
        self._ready: _Ready | None = None  # for tensors like the last ones

    def forward(self, x: Tensor, *added: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._run(x, added)
        if (ready := self._ready) is None or not ready.takes(self._parameters, x, added):
            y = self._run(x, added)
            self._ready = _Ready.made_for(self, x, added)
            return y
        return ready.run(x, *self._by_step(added))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ready": None}  # it holds addresses

    def _run(self, x: Tensor, added: tuple[Tensor, ...]) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:  # a fraction of the channels would pass for a depthwise one
            raise ValueError(f"x of shape {tuple(x.shape)}: must be (N, {self.in_channels}, H, W)")
        arguments = self._arguments(x, *self._by_step(added))
        if added:
            shape = arguments.output_shape
            if not all(_joins(tensor, x, shape) for tensor in added):
                return self._separately(arguments)
        return portable(arguments) if torch.compiler.is_compiling() else unit(arguments)  # a compiler fuses by itself

    def _by_step(self, added: tuple[Tensor, ...]) -> tuple[Tensor | None, Tensor | None]:
        """What each of the two steps adds."""
        inner, outer = self.adds
        return None if inner is None else added[0], None if outer is None else added[-1]

    def _arguments(self, x: Tensor, inner: Tensor | None, outer: Tensor | None) -> UnitArguments:
        tensors = (x, self.depthwise, self.depthwise_bias, self.weight, self.bias, inner, self.scale, self.shift, outer)
        window = (self.stride, self.padding, self.dilation)
        return UnitArguments(*tensors, *window, self.ceiling, self.connections, *self.relus)

    def _separately(self, a: UnitArguments) -> Tensor:
        """With additions of other shapes or types, as the network itself makes them."""
        alone = {"inner_residual": None, "residual": None, "scale": None, "shift": None}
        y = portable(a._replace(**alone, inner_relu=False, relu=False))
        for add, other, relu in zip(self.adds, (a.inner_residual, a.residual), self.relus, strict=True):
            y = activate(y if add is None or other is None else add(y, other), math.inf if relu else None)
            if a.scale is not None and a.shift is not None:
                y, a = y * a.scale[:, None, None] + a.shift[:, None, None], a._replace(scale=None, shift=None)
        return y

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        n, _, *size = output_shape
        before = () if self.depthwise is None else tuple(self.depthwise.shape)
        depthwise = conv_macs(before, (n, before[0], *size)) if before else 0
        return depthwise + n * size[0] * size[1] * self.connections


def _joins(other: Tensor, x: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether `other` is a tensor of the shape, type and device of the output for x."""
    return isinstance(other, Tensor) and other.shape == shape and other.dtype == x.dtype and other.device == x.device


class _Ready:
    """A unit's next call, for tensors of the same shapes and layout, with the same weights and number of threads.

    A call of a few thousand multiplications takes 61 microseconds without it, and 9 to 12 with it, on a Xeon.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter | None], a: UnitArguments) -> None:
        self.run, self.threads, self.shape = Prepared(a), torch.get_num_threads(), a.x.shape
        given = [(name, tensor) for name, tensor in parameters.items() if tensor is not None]
        # Their memory is held, so that no others can stand at the same addresses.
        self.weights = [(name, tensor, tensor.detach(), tensor._version) for name, tensor in given]

    @classmethod
    def made_for(cls, unit: FusedUnit, x: Tensor, added: tuple[Tensor, ...]) -> "_Ready | None":
        """None where `takes` would be false of the same tensors."""
        if torch.is_grad_enabled() or not is_only_computed(x) or not _lies_like(x, x.shape):
            return None
        a = unit._arguments(x, *unit._by_step(added))
        if not can_run(a) or 0 in a.output_shape or any(tensor.is_inference() for tensor in unit.parameters()):
            return None
        return cls(unit._parameters, a) if all(_lies_like(tensor, a.output_shape) for tensor in added) else None

    def takes(self, parameters: Mapping[str, nn.Parameter | None], x: Tensor, added: tuple[Tensor, ...]) -> bool:
        return (
            is_only_computed(x)
            and not torch.is_grad_enabled()
            and torch.get_num_threads() == self.threads
            and _lies_like(x, self.shape)
            and all(_lies_like(tensor, self.run.output_shape) for tensor in added)
            and all(
                parameters[name] is tensor and tensor.data_ptr() == held.data_ptr() and tensor._version == version
                for name, tensor, held, version in self.weights
            )
        )


def _lies_like(tensor: Tensor, shape: Sequence[int]) -> bool:
    """Whether it is a float32 tensor of the shape, channels-last, on the CPU."""
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == shape
        and tensor.dtype == torch.float32
        and tensor.is_cpu
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )

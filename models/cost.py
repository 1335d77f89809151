"""Count a network: the only code that counts.

MACs: one multiply-add is one MAC; FLOPs are 2 MACs and always labelled so. Convolutions and linear
layers count; normalisation, activation, pooling, additions and moves count zero and are listed as
uncounted. All figures are for one image.
"""

import math
from collections import Counter
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from models.kernels.gated_conv import OPERATOR
from models.meta import run_on_meta

# The operators that convolutions and linear layers become; the analytic formulas must match them.
COUNTED = ("aten.convolution", "aten._convolution", "aten.mm", "aten.addmm", "aten.bmm", OPERATOR)
# No arithmetic: views, allocation and bookkeeping, which would only hide the rest of the list.
MOVES = (
    "aten.detach",
    "aten.empty",
    "aten.alias",
    "aten.lift_fresh",
    "aten._unsafe_view",
    "aten.clone",
    "aten._to_copy",
)


@dataclass(frozen=True)
class LayerCost:
    """One module that holds parameters of its own; activations: elements of a counted layer's output."""

    name: str
    kind: str
    params: int
    macs: int
    activations: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Totals for one image; `uncounted` names each operator left out, with its number of calls."""

    params: int
    macs: int
    activations: int
    layers: tuple[LayerCost, ...]
    uncounted: dict[str, int]

    @property
    def flops(self) -> int:
        return 2 * self.macs

    def macs_of(self, name: str) -> int:
        """MACs of the layer called `name`, its children included."""
        return sum(layer.macs for layer in self.layers if f"{layer.name}.".startswith(f"{name}."))


def count(net: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Cost of `net` for one image of (C, H, W), by formulas checked against torch's operator counter.

    Raises ValueError where the two disagree: a layer then computes something that no formula covers.
    """
    ledger = _Ledger(net)
    flops = FlopCounterMode(display=False)
    seen = _Operators()
    try:
        with flops, seen:
            run_on_meta(net, (1, *input_shape))
    finally:
        ledger.close()
    _require_agreement(ledger, flops, type(net).__name__)
    params = sum(parameter.numel() for parameter in net.parameters())
    layers = tuple(ledger.rows())
    return Cost(
        params,
        sum(layer.macs for layer in layers),
        sum(layer.activations for layer in layers),
        layers,
        dict(sorted(seen.calls.items())),
    )


def conv_macs(weight_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
    """Convolution: weight (out, in / groups, *kernel), output (N, out, *size): N out size in / groups kernel."""
    return math.prod(output_shape) * math.prod(weight_shape[1:])


def linear_macs(weight_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
    """Linear: weight (out, in), output (..., out): one MAC for each input of each output."""
    return math.prod(output_shape) * weight_shape[1]


def conv_transpose_macs(weight_shape: tuple[int, ...], input_shape: tuple[int, ...]) -> int:
    """Transposed convolution: weight (in, out / groups, k, k), input (N, in, H, W)."""
    return math.prod(input_shape) * math.prod(weight_shape[1:])


def gated_layers(net: nn.Module) -> dict[str, nn.Module]:
    """The layers whose output is a convolution times a gate (see models/layers), by dotted name."""
    return {name: module for name, module in net.named_modules() if getattr(module, "is_gated", False)}


class _Ledger:
    """Watches one forward pass and keeps a row for each module that has parameters of its own."""

    def __init__(self, net: nn.Module) -> None:
        self.modules = {name: module for name, module in net.named_modules() if module._parameters}
        self.macs: Counter[str] = Counter()
        self.activations: Counter[str] = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.handles = [module.register_forward_hook(self._hook(name)) for name, module in self.modules.items()]

    def _hook(self, name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.shapes[name] = tuple(output.shape)
            macs = _macs(module, tuple(inputs[0].shape), self.shapes[name])
            self.macs[name] += macs
            self.activations[name] += output.numel() if macs else 0

        return hook

    def rows(self) -> list[LayerCost]:
        """In order of execution, the modules that never ran last."""
        order = [*self.shapes, *(name for name in self.modules if name not in self.shapes)]
        return [self._row(name) for name in order]

    def _row(self, name: str) -> LayerCost:
        own = sum(p.numel() for p in self.modules[name].parameters(recurse=False))
        kind = type(self.modules[name]).__name__
        return LayerCost(name, kind, own, self.macs[name], self.activations[name], self.shapes.get(name, ()))

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def _macs(module: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
    match module:
        case nn.ConvTranspose2d():
            return conv_transpose_macs(tuple(module.weight.shape), input_shape)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return conv_macs(tuple(module.weight.shape), output_shape)
        case nn.Linear():
            return linear_macs(tuple(module.weight.shape), output_shape)
    formula = getattr(module, "macs", None)
    return formula(input_shape, output_shape) if formula else 0


class _Operators(TorchDispatchMode):
    """Counts the calls of every operator that does arithmetic and is not counted as MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func.overloadpacket)
        if name not in COUNTED and not func.is_view and name not in MOVES:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


def _require_agreement(ledger: _Ledger, flops: FlopCounterMode, root: str) -> None:
    """The formulas and the operator counter, module by module so that the message can name the layer."""
    counts = flops.get_flop_counts()
    if sum(ledger.macs.values()) == _counter_macs(counts, "Global"):
        return
    for name in ledger.modules:
        by_operators = _counter_macs(counts, f"{root}.{name}")
        if ledger.macs[name] != by_operators:
            raise ValueError(
                f"{name}: the formula of {type(ledger.modules[name]).__name__} gives {ledger.macs[name]:,} MACs, "
                f"torch.utils.flop_counter {by_operators:,}; this layer needs a method macs(input_shape, output_shape)"
            )
    raise ValueError(
        f"the formulas give {sum(ledger.macs.values()):,} MACs, torch.utils.flop_counter "
        f"{_counter_macs(counts, 'Global'):,}; a module without parameters of its own convolves or multiplies"
    )


def _counter_macs(counts: dict, module: str) -> int:
    return sum(flops for operator, flops in counts.get(module, {}).items() if str(operator) in COUNTED) // 2


assert all(any(str(operator) == name for operator in flop_registry) for name in COUNTED)

"""Count a network: the only code that counts.

MACs: one multiply-add is one MAC; FLOPs are 2 MACs and always labelled so. Convolutions and linear layers count, and
every other product of matrices, as in attention; normalisation, activation, pooling, additions and moves count zero
and are listed as uncounted. All figures are for one image.

Each operator that computes MACs is counted by the formula that torch.utils.flop_counter has for it, in the module whose
forward runs. Where that module has a formula of its own, the two must agree; where it has none, the operators
stand alone and the module's row says so.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .macs import Shape, conv_macs, conv_transpose_macs, linear_macs
from .meta import run_on_meta
from .watch import watched

# Formulas for the FLOPs of PyTorch's operators, by name, from their arguments and output: those of torch's counter, and
# products that it lacks. Other operators, ours among them, register their formula with torch's counter when they are
# defined, perhaps after this file is imported.
FLOPS: dict[str, Callable[..., int]] = {str(operator): formula for operator, formula in flop_registry.items()} | {
    "aten.addbmm": lambda addend, left, right, **others: 2 * left.numel() * right.shape[2],
    "aten.mv": lambda matrix, vector, **others: 2 * matrix.numel(),
    "aten.addmv": lambda addend, matrix, vector, **others: 2 * matrix.numel(),
    "aten.dot": lambda left, right, **others: 2 * left.numel(),
}
# Operators without arithmetic: allocation, copies and bookkeeping, which would only hide the rest of the list.
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
    """One module that has parameters of its own or multiplies; `activations` is the size of what it computes.

    `operators`: MACs of each operator where they alone counted the module, and {} where its formula did too.
    """

    name: str
    kind: str
    params: int
    macs: int
    activations: int
    output_shape: Shape
    operators: dict[str, int]


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

    @property
    def macs_by_operators(self) -> int:
        """MACs that no formula checks."""
        return sum(layer.macs for layer in self.layers if layer.operators)

    def macs_of(self, name: str) -> int:
        """MACs of the layer called `name`, its children included."""
        return sum(layer.macs for layer in self.layers if f"{layer.name}.".startswith(f"{name}."))


def count(net: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Cost of `net` for one image of (C, H, W).

    Raises ValueError where a module's formula and its operators disagree.
    """
    ledger = _Ledger(net)
    with watched(ledger.modules, before=ledger.enter, after=ledger.leave):
        run_on_meta(net, (1, *input_shape), counter=ledger)
    layers = tuple(ledger.rows())
    return Cost(
        sum(parameter.numel() for parameter in net.parameters()),
        sum(layer.macs for layer in layers),
        sum(layer.activations for layer in layers),
        layers,
        dict(sorted(ledger.uncounted.items())),
    )


class _Ledger(TorchDispatchMode):
    """Watches one forward pass: what each module's formula gives, and what the operators in it compute."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.modules = dict(net.named_modules())
        self.formulas = {name: formula for name, module in self.modules.items() if (formula := _formula(module))}
        self.running: list[str] = []  # for each forward pass that has begun, the module that its operators count for
        self.by_formula: Counter[str] = Counter()
        self.by_operators: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.activations: Counter[str] = Counter()
        self.shapes: dict[str, Shape] = {}
        self.uncounted: Counter[str] = Counter()

    def enter(self, name: str, module: nn.Module, inputs: tuple) -> None:
        """Let a module without a formula count for the one around it, if that has a formula."""
        covered = bool(self.running) and self.running[-1] in self.formulas and name not in self.formulas
        self.running.append(self.running[-1] if covered else name)

    def leave(self, name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        self.running.pop()
        self.shapes[name] = _first_shape(output)
        if name in self.formulas:
            macs = self.formulas[name](_first_shape(inputs), self.shapes[name])
            self.by_formula[name] += macs
            self.activations[name] += math.prod(self.shapes[name]) if macs else 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        operator = str(func.overloadpacket)
        name = operator.removesuffix("_")  # an operator that writes to its input costs the same
        formula = FLOPS.get(name) or flop_registry.get(func.overloadpacket)
        if formula:
            self._add(self.running[-1], operator, formula(*args, **(kwargs or {}), out_val=output) // 2, output)
        elif not func.is_view and operator not in MOVES:
            self.uncounted[operator] += 1
        return output

    def _add(self, name: str, operator: str, macs: int, output: Tensor) -> None:
        self.by_operators[name][operator] += macs
        self.activations[name] += 0 if name in self.formulas else output.numel()

    def rows(self) -> list[LayerCost]:
        """In order of execution, the modules that never ran last; ValueError where the two counts of one disagree."""
        order = [*self.shapes, *(name for name in self.modules if name not in self.shapes)]
        return [self._row(name) for name in order if self.modules[name]._parameters or name in self.by_operators]

    def _row(self, name: str) -> LayerCost:
        module, operators = self.modules[name], dict(self.by_operators[name])
        macs = sum(operators.values())
        if name in self.formulas:
            self._require_agreement(name, macs)
            operators = {}
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        shape = self.shapes.get(name, ())
        return LayerCost(name, type(module).__name__, own, macs, self.activations[name], shape, operators)

    def _require_agreement(self, name: str, macs: int) -> None:
        if self.by_formula[name] != macs:
            raise ValueError(
                f"{name}: the formula of {type(self.modules[name]).__name__} gives {self.by_formula[name]:,} MACs, its "
                f"operators {macs:,}; this layer needs a method macs(input_shape, output_shape) that gives those"
            )


def _formula(module: nn.Module) -> Callable[[Shape, Shape], int] | None:
    """MACs from the shapes of the first input and the first output; None where only the operators know."""
    if own := getattr(module, "macs", None):
        return own
    match module:
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            return lambda inputs, outputs: conv_transpose_macs(tuple(module.weight.shape), inputs)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return lambda inputs, outputs: conv_macs(tuple(module.weight.shape), outputs)
        case nn.Linear():
            return lambda inputs, outputs: linear_macs(tuple(module.weight.shape), outputs)
    return None


def _first_shape(values: Any) -> Shape:
    """The shape of the first tensor among nested values; () where there is none."""
    return next((tuple(value.shape) for value in tree_leaves(values) if isinstance(value, Tensor)), ())

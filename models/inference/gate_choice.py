"""Choose, for each gated convolution of a deployed network, whether skipping pays on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from ..columns import columns
from ..kernels.fused_gated_conv import FusedGatedConv
from ..watch import watched

REPEATS = 5
DECISIVE = 1e30  # added to a gate's bias it opens every position, taken off it closes every position


@dataclass(frozen=True)
class GateChoice:
    """One gated convolution: what its gate closed, what that should save and saves, and what was chosen.

    The cost model has two measured constants, the times with every gate closed and with every gate open; at a zero
    fraction z skipping takes closed_ms + (1 - z) (open_ms - closed_ms). MACs are for one image; `macs_effective`
    counts the gate and, of the convolution, open positions.
    """

    name: str
    zero_fraction: float
    macs: int
    macs_effective: float
    dense_ms: float
    closed_ms: float
    open_ms: float
    skips: bool

    @property
    def skip_ms(self) -> float:
        return self.closed_ms + (1 - self.zero_fraction) * (self.open_ms - self.closed_ms)

    @property
    def break_even(self) -> float:
        """The zero fraction from which on skipping is faster; above 1 where it never is."""
        slope = max(self.open_ms - self.closed_ms, 1e-9)
        return max(0.0, (self.open_ms - self.dense_ms) / slope)


def choose_gates(net: nn.Module, images: Tensor) -> list[GateChoice]:
    """Set `skips` of every gated convolution in the deployed `net` by timing it on its own input for `images`.

    Give it real `images` (N, C, H, W), and the batch size and number of threads that the network will run with: the
    choice depends on all of them.
    """
    layers = {name: module for name, module in net.named_modules() if isinstance(module, FusedGatedConv)}
    choices: list[GateChoice] = []

    def measure(name: str, layer: FusedGatedConv, inputs: tuple[Tensor, ...]) -> None:
        choices.append(_measure(name, layer, *inputs))
        layer.skips = choices[-1].skips

    with torch.inference_mode(), watched(layers, before=measure):
        net(images)
    return choices


def gate_table(choices: list[GateChoice]) -> str:
    """One line a gated layer; speed-ups are over the convolution alone in MACs, over the dense product in time."""
    rows = [("layer", "closed %", "MACs", "left", "x fewer", "dense ms", "skip ms", "x faster", "even at %", "")]
    rows += [_cells(choice) for choice in choices]
    return "\n".join(columns(rows))


def _cells(choice: GateChoice) -> tuple[str, ...]:
    return (
        choice.name,
        f"{100 * choice.zero_fraction:.1f}",
        f"{choice.macs:,}",
        f"{choice.macs_effective:,.0f}",
        f"{choice.macs / choice.macs_effective:.2f}",
        f"{choice.dense_ms:.3f}",
        f"{choice.skip_ms:.3f}",
        f"{choice.dense_ms / choice.skip_ms:.2f}",
        f"{100 * choice.break_even:.0f}" if choice.break_even <= 1 else "never",
        "skips" if choice.skips else "dense",
    )


def _measure(name: str, layer: FusedGatedConv, x: Tensor, residual: Tensor | None = None) -> GateChoice:
    gate = layer.gate(x)
    zeros = (gate == 0).double().mean().item()
    shape = (1, len(layer.conv.weight), *gate.shape[2:])
    conv, overhead = layer.conv.macs(tuple(x.shape), shape), layer.gate_macs(shape)
    closed, opened = layer.gate_bias - DECISIVE, layer.gate_bias + DECISIVE
    dense_ms = _milliseconds(lambda: layer.dense(x, residual), x)
    closed_ms = _milliseconds(lambda: layer.skipping(x, residual, closed), x)
    open_ms = _milliseconds(lambda: layer.skipping(x, residual, opened), x)
    choice = GateChoice(name, zeros, conv, (1 - zeros) * conv + overhead, dense_ms, closed_ms, open_ms, skips=True)
    return choice if choice.skip_ms < choice.dense_ms else GateChoice(**{**vars(choice), "skips": False})


def _milliseconds(run: Callable[[], Tensor], x: Tensor) -> float:
    """Median of a few runs after one to warm up."""
    seconds = []
    for _ in range(1 + REPEATS):
        start = perf_counter()
        run()
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds.append(perf_counter() - start)
    return 1e3 * median(seconds[1:])

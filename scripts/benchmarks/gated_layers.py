"""Single gated convolutions for benchmark=gates, each gated by a pattern in its input."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.geometry import ConvGeometry
from models.kernels import native
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_gated_conv import FusedGatedConv
from scripts.benchmarks.side_by_side import SideBySide, time_in_turn

# (input channels, output channels, stride, input size) of the 3 x 3 convolutions, by batch size.
IMAGENET = [(64, 64, 1, 56), (128, 128, 1, 28), (256, 256, 1, 14), (512, 512, 1, 7)]
IMAGENET_STRIDED = [(64, 128, 2, 56), (128, 256, 2, 28), (256, 512, 2, 14)]
CIFAR = [(16, 16, 1, 32), (32, 32, 1, 16), (64, 64, 1, 8)]
CIFAR_STRIDED = [(16, 32, 2, 32), (32, 64, 2, 16)]
SHAPES = [(batch, *shape) for batch in (1, 8) for shape in IMAGENET + IMAGENET_STRIDED] + [
    (batch, *shape) for batch in (1, 128) for shape in CIFAR + CIFAR_STRIDED
]
Row = dict[str, Any]


def layer_rows(zero_fractions: list[float], gate_kernel: str, repeats: int) -> list[Callable[[], list[Row]]]:
    """Functions without arguments, each of which measures one layer and returns its row in a list."""
    return [
        lambda shape=shape, closed=zero_fraction, pattern=pattern: [
            _layer_row(shape, gate_kernel, closed, pattern, repeats)
        ]
        for shape in SHAPES
        for pattern in ("random", "clustered")
        for zero_fraction in zero_fractions
    ]


def _layer_row(shape: tuple[int, ...], gate_kernel: str, zero_fraction: float, pattern: str, repeats: int) -> Row:
    batch, m, n, stride, size = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, m, size, size, generator=generator).to(memory_format=torch.channels_last)
    x[:, 0] = _pattern(pattern, batch, size, generator)
    geometry = ConvGeometry.like(m, n, 3, stride, 1)
    weight = torch.randn(n, m, 3, 3, generator=generator) / (3 * m**0.5)
    shift = torch.randn(n, generator=generator)
    gated = _gated(geometry, weight, shift, x, zero_fraction, 3 if gate_kernel == "kxk" else 1)
    return compare(f"{m}to{n}_{size}px_stride{stride}", gated, (x,), pattern, repeats)


def compare(name: str, gated: FusedGatedConv, inputs: tuple[Tensor, ...], gates: str, repeats: int) -> Row:
    """The row of one layer: `gated` on its `inputs`, x and perhaps a residual, beside its convolution alone."""
    x = inputs[0]
    bias = gated.conv.bias if gated.shift is None else gated.shift
    dense = FusedConv(gated.geometry, gated.conv.weight, bias, ceiling=gated.ceiling)
    closed = (gated.gate(x) == 0).double().mean().item()
    shape = (1, *dense.output_shape(x)[1:])
    conv = dense.macs(tuple(x.shape), shape)
    theoretical = conv / ((1 - closed) * conv + gated.gate_macs(shape))
    times = time_in_turn(lambda: dense(*inputs), lambda: gated.forward(*inputs), repeats)
    return row("layer", name, list(x.shape), closed, gates, theoretical, times)


def row(
    level: str, name: str, shape: list[int], zero_fraction: float, gates: str, theoretical: float, times: SideBySide
) -> Row:
    """One line of the table; `zero_fraction` is the closed share of the gated convolutions' MACs, `shape` the input's.

    The last five are for networks: the engine of the dense side, how many gated layers skip, how many times faster that
    is than the same network with all of them dense products, and the test top-1 of a run in percent, as recorded and as
    the deployed network has it.
    """
    return {
        "level": level,
        "name": name,
        "shape": shape,
        "threads": torch.get_num_threads(),
        "zero_fraction": zero_fraction,
        "gates": gates,
        "dense_ms": times.first,
        "skip_ms": times.second,
        "theoretical": theoretical,
        "realised": times.ratio,
        "ratio": times.ratio / theoretical,
        "spread": times.spread,
        "macs_saved": 1 - 1 / theoretical,
        "time_saved": 1 - 1 / times.ratio,
        "implementation": "native" if native.library() else "portable",
        "dense_engine": None,
        "layers_skipping": None,
        "over_dense_product": None,
        "top1": None,
        "top1_deployed": None,
    }


def _pattern(name: str, batch: int, size: int, generator: torch.Generator) -> Tensor:
    """(batch, size, size): independent noise, or noise smoothed over about a quarter of the image."""
    noise = torch.rand(batch, 1, size, size, generator=generator)
    if name == "clustered":
        coarse = torch.rand(batch, 1, 4, 4, generator=generator)
        noise = F.interpolate(coarse, size=(size, size), mode="bilinear") + 0.01 * noise
    return noise[:, 0]


def _gated(
    geometry: ConvGeometry, weight: Tensor, shift: Tensor, x: Tensor, zero_fraction: float, kernel: int
) -> FusedGatedConv:
    """Gated by the first channel of `x`, so that the share `zero_fraction` of the gates is closed."""
    gate_weight = torch.zeros(1, geometry.in_channels, kernel, kernel)
    gate_weight[0, 0, kernel // 2, kernel // 2] = 1
    padding = (kernel // 2, kernel // 2)
    bias = -threshold(x[:, 0, :: geometry.stride[0], :: geometry.stride[1]], zero_fraction).view(1)
    return FusedGatedConv(
        geometry, weight, None, gate_weight, bias, padding, math.inf, None, shift, inner_relu=False, relu=True
    )


def threshold(values: Tensor, share: float) -> Tensor:
    """What to take off `values` so that a share of them, or as near to it as equal values allow, is not positive.

    Values closer than rounding, which another order of summation can exchange, count as equal.
    """
    grain = 1e-4 * values.std()
    ordered, counts = (values / grain).round().unique(return_counts=True)
    steps = torch.cat([ordered[:1] - 1000, ordered])
    shares = torch.cat([torch.zeros(1), counts.cumsum(0) / counts.sum()])
    return (steps[(shares - share).abs().argmin()] + 0.5) * grain

"""benchmark=gates: what gates that skip save in time, beside what they save in MACs.

Each row pairs a dense side with a skipping one. The dense side is the strict baseline: no gate at all, BatchNorm folded,
ReLU and residual fused, weights in oneDNN's own layout. The skipping side includes its gates. `theoretical` is
how many times fewer MACs it takes, `realised` how many times less time (the median of `repeats` rounds in turn),
`ratio` the second over the first; `spread` the distance between quartiles of the realised speed-up, as a share of it.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.geometry import ConvGeometry
from models.kernels import native
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_gated_conv import FusedGatedConv
from scripts import gated_networks
from scripts.side_by_side import Pair, pair

# (input channels, output channels, stride, input size) of the 3 x 3 convolutions, by batch size.
IMAGENET = [(64, 64, 1, 56), (128, 128, 1, 28), (256, 256, 1, 14), (512, 512, 1, 7)]
IMAGENET_STRIDED = [(64, 128, 2, 56), (128, 256, 2, 28), (256, 512, 2, 14)]
CIFAR = [(16, 16, 1, 32), (32, 32, 1, 16), (64, 64, 1, 8)]
CIFAR_STRIDED = [(16, 32, 2, 32), (32, 64, 2, 16)]
SHAPES = [(batch, *shape) for batch in (1, 8) for shape in IMAGENET + IMAGENET_STRIDED] + [
    (batch, *shape) for batch in (1, 128) for shape in CIFAR + CIFAR_STRIDED
]
Row = dict[str, Any]


def rows(
    *,
    zero_fractions: list[float],
    threads: list[int],
    repeats: int,
    layers: bool,
    gate_kernel: Literal["1x1", "kxk"],
    networks: list[str],
    trained: list[str],
) -> list[Row]:
    """The layer rows, then the networks with gates set to each zero fraction, then the trained ones."""
    found: list[Row] = []
    with torch.inference_mode():
        for number in threads:
            torch.set_num_threads(number)
            if layers:
                found += layer_rows(zero_fractions, gate_kernel, repeats)
            for name in networks:
                found += gated_networks.set_rows(name, zero_fractions, repeats)
            for folder in trained:
                found += gated_networks.trained_rows(Path(folder), repeats)
    return found


def layer_rows(zero_fractions: list[float], gate_kernel: str, repeats: int) -> list[Row]:
    return [
        _layer_row(shape, gate_kernel, zeros, pattern, repeats)
        for shape in SHAPES
        for pattern in ("random", "clustered")
        for zeros in zero_fractions
    ]


def _layer_row(shape: tuple[int, ...], gate_kernel: str, zeros: float, pattern: str, repeats: int) -> Row:
    batch, m, n, stride, size = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, m, size, size, generator=generator).to(memory_format=torch.channels_last)
    x[:, 0] = _pattern(pattern, batch, size, generator)
    geometry = ConvGeometry.like(m, n, 3, stride, 1)
    weight = torch.randn(n, m, 3, 3, generator=generator) / (3 * m**0.5)
    bias = torch.randn(n, generator=generator)
    dense = FusedConv(geometry, weight, bias, relu=True)
    gated = _gated(geometry, weight, bias, x, zeros, 3 if gate_kernel == "kxk" else 1)
    closed = (gated.gate(x) == 0).double().mean().item()
    output_shape = (1, n, *geometry.output_size(size, size))
    conv = dense.macs(tuple(x.shape), output_shape)
    theoretical = conv / ((1 - closed) * conv + gated.gate_macs(output_shape))
    times = pair(lambda: dense(x), lambda: gated(x), repeats)
    name = f"{m}to{n}_{size}px_stride{stride}"
    return {"level": "layer", "name": name} | row(list(x.shape), closed, pattern, theoretical, times)


def row(shape: list[int], zeros: float, gates: str, theoretical: float, times: Pair) -> Row:
    """What all rows have in common; `zeros` is the closed share of the convolution's MACs."""
    return {
        "shape": shape,
        "threads": torch.get_num_threads(),
        "zero_fraction": zeros,
        "gates": gates,
        "dense_ms": times.first_ms,
        "skip_ms": times.second_ms,
        "theoretical": theoretical,
        "realised": times.ratio,
        "ratio": times.ratio / theoretical,
        "spread": times.spread,
        "macs_saved": 1 - 1 / theoretical,
        "time_saved": 1 - 1 / times.ratio,
        "implementation": "native" if native.function() else "portable",
    }


def _pattern(name: str, batch: int, size: int, generator: torch.Generator) -> Tensor:
    """(batch, size, size): independent noise, or noise smoothed over about a quarter of the image."""
    noise = torch.rand(batch, 1, size, size, generator=generator)
    if name == "clustered":
        coarse = torch.rand(batch, 1, 4, 4, generator=generator)
        noise = F.interpolate(coarse, size=(size, size), mode="bilinear") + 0.01 * noise
    return noise[:, 0]


def _gated(geometry: ConvGeometry, weight: Tensor, shift: Tensor, x: Tensor, zeros: float, kernel: int) -> FusedGatedConv:
    """Gated by the first channel of `x`, so that a share `zeros` of the gates is closed."""
    gate_weight = torch.zeros(1, geometry.in_channels, kernel, kernel)
    gate_weight[0, 0, kernel // 2, kernel // 2] = 1
    padding = (kernel // 2, kernel // 2)
    seen = x[:, 0, :: geometry.stride[0], :: geometry.stride[1]].flatten().sort().values
    number = round(zeros * len(seen))
    bias = -seen[number - 1 : number] if number else torch.ones(1)
    return FusedGatedConv(
        geometry, weight, None, gate_weight, bias, padding, None, shift, inner_relu=False, relu=True
    )

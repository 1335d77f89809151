"""The factorized network of single intra-channel convolutions."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from . import require_room


def factorized(
    num_classes: int = 1000,
    input_size: int = 221,
    in_channels: int = 3,
    *,
    layers_per_stage: int,
    layer: Callable[..., nn.Module],
    kernel_size: int = 3,
) -> nn.Module:
    """Three stages of `layers_per_stage` residual layers at 128, 256 and 512 channels.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337. A reconstruction: the
    paper's table of stages was not at hand. With input 221 the maps are 108, 36, 18 and 6 pixels wide, and
    L layers of single intra-channel convolution a stage cost 136.2 M + L x 54.3 M MACs, which gives the paper's totals:
    470 M and 2.8 M parameters (L = 6), 845 M (L = 13), 1,172 M (L = 19), all within 2 %.
    `layer` takes nn.Conv2d's arguments and is linear: nn.Conv2d, Bases (with one basis the paper's own),
    Subdivided, SpatialBottleneck. Around it: ReLU(x + BN(layer(x))).
    """
    if layers_per_stage < 1:
        raise ValueError(f"layers_per_stage={layers_per_stage}: a stage has at least one layer; nearest: 1")
    require_room(input_size, 77, "the four halvings and thirds")

    def stage(width: int) -> Iterator[nn.Module]:
        for _ in range(layers_per_stage):
            yield Residual(layer(width, width, kernel_size, 1, kernel_size // 2, bias=False), width)

    pools = iter([nn.MaxPool2d(3), nn.MaxPool2d(2), nn.MaxPool2d(3)])
    layers = [_conv(in_channels, 64, 7, stride=2)]
    for before, width in pairwise([64, 128, 256, 512]):
        layers.append(nn.Sequential(next(pools), _conv(before, width, 1), *stage(width)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


class Residual(nn.Module):
    """ReLU(x + BN(layer(x))) at one width: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.layer(x)))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())

"""The scope `blocks` on the block structures of each family, name by name, and what gates there cost."""

from functools import partial

import pytest
import torch
from torch import nn

from models import scope
from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.library import library_network
from models.backbones.preact_resnet import preact_resnet, wide_resnet
from models.build import build, paper_input
from models.layers import gated_layers
from models.layers.lccl import LCCL
from tests.conftest import replace


class Marked(nn.Conv2d):
    """A convolution that is none of the network's own."""


def named(stage: str, sizes: list[int], *convs: str, first: int = 0) -> set[str]:
    """Names of `convs` in each block: stage takes the number of the stage from 1 and that of the block from `first`."""
    places = [(s + 1, b + first) for s, size in enumerate(sizes) for b in range(size)]
    return {f"{stage.format(s, b)}.{conv}" for s, b in places for conv in convs}


BASIC, BOTTLENECK = ("conv1", "conv2"), ("conv2", "conv3")
INVERTED = named("blocks.{}.{}", [2, 3, 4, 3, 3, 1], "conv_dw", "conv_pwl")
PLACEMENTS = [
    (partial(cifar_resnet, depth=20, shortcut="A"), named("stage{}.{}", [3, 3, 3], *BASIC)),
    (partial(cifar_resnet, depth=20, shortcut="B"), named("stage{}.{}", [3, 3, 3], *BASIC)),
    (partial(cifar_resnet, depth=8, shortcut="B"), named("stage{}.{}", [1, 1, 1], *BASIC)),
    (partial(library_network, name="resnet18"), named("layer{}.{}", [2, 2, 2, 2], *BASIC)),
    (partial(library_network, name="resnet50"), named("layer{}.{}", [3, 4, 6, 3], *BOTTLENECK)),
    (partial(library_network, name="resnet101"), named("layer{}.{}", [3, 4, 23, 3], *BOTTLENECK)),
    (partial(library_network, name="resnet50", library="torchvision"), named("layer{}.{}", [3, 4, 6, 3], *BOTTLENECK)),
    (partial(library_network, name="resnext50_32x4d"), named("layer{}.{}", [3, 4, 6, 3], *BOTTLENECK)),
    (partial(library_network, name="regnety_004"), named("s{}.b{}", [1, 3, 6, 6], "conv2.conv", "conv3.conv", first=1)),
    (
        partial(preact_resnet, depth=20, block="basic", shortcut="A"),
        named("stage{}.{}.branch", [3, 3, 3], *BASIC),
    ),
    (
        partial(preact_resnet, depth=164, block="bottleneck", shortcut="B"),
        named("stage{}.{}.branch", [18, 18, 18], *BOTTLENECK),
    ),
    (
        partial(wide_resnet, depth=16, widen_factor=2, dropout=0.3),
        named("stage{}.{}.branch", [2, 2, 2], *BASIC),
    ),
    # The first block has no expansion: a separable convolution, whose 1x1 ends no bottleneck.
    (partial(library_network, name="mobilenetv2_100"), {"blocks.0.0.conv_dw"} | INVERTED),
]


SIZES = {"cifar_resnet": (16, 32), "preact_resnet": (16, 32), "wide_resnet": (16, 32), "library_network": (16, 224)}
EACH_SIZE = [(backbone, size, names) for backbone, names in PLACEMENTS for size in SIZES[backbone.func.__name__]]


@pytest.mark.parametrize(
    ("backbone", "size", "expected"), EACH_SIZE, ids=lambda value: str(getattr(value, "keywords", ""))
)
def test_spatial_and_the_last_1x1_of_bottlenecks(backbone, size: int, expected: set[str]) -> None:
    """At 16 px the last stage of a network built for 32 is 1 x 1, as small as what squeeze-and-excitation works on."""
    with torch.device("meta"):
        net = backbone(1000, max(size, 32), 3)
        swaps = replace(net, Marked, scope.blocks, (1, 3, size, size))
    assert {swap.name for swap in swaps if swap.replaced} == expected
    assert {swap.reason for swap in swaps} <= {"", "stem", "1x1 that ends no bottleneck"}


def test_a_shortcut_or_a_stem_is_no_bottleneck() -> None:
    """A deep stem, a 1x1 as wide as the stem, then a block whose projection runs first."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
            self.shortcut = nn.Conv2d(8, 16, 1)
            self.block = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 1))
            self.head = nn.Conv2d(16, 4, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.head(self.shortcut(x) + self.block(x))

    swaps = replace(Net(), Marked, scope.blocks, (1, 3, 8, 8))
    assert [swap.name for swap in swaps if swap.replaced] == ["stem.1", "block.1", "block.2"]


def test_a_shortcut_that_runs_first_makes_no_bottleneck_of_what_follows() -> None:
    """A 1x1 right before a k x k whose input it does not make: a separable block with a projection, whose 1x1 stays."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shortcut = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1)
            self.spatial, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.shortcut(x) + self.last(self.spatial(x))

    swaps = replace(Net(), Marked, scope.blocks, (1, 3, 8, 8))
    assert [swap.name for swap in swaps if swap.replaced] == ["spatial"]


# By the layer tables of He et al. 2016, in percent of the baseline's MACs: the convolutions of the blocks, and what a
# 1x1xCx1, a kxkxCx1 and a 1x1xCxT gate on each of them add; the last costs what the last 1x1 of a bottleneck does. Of
# the deepest networks, which take long to rebuild, the cheapest gate alone.
SHARES = [
    (partial(cifar_resnet, depth=20), 98.9, (0.41, 3.68, 10.99)),
    (partial(cifar_resnet, depth=110), 99.8, (0.41,)),
    (partial(preact_resnet, depth=164, block="bottleneck", shortcut="B"), 75.3, (0.42,)),
    (partial(preact_resnet, depth=29, block="bottleneck", shortcut="B"), 69.8, (0.39, 1.96)),
    (partial(library_network, name="resnet18"), 92.4, (0.08, 0.70, 10.27)),
    (partial(library_network, name="resnet34"), 96.2, (0.07,)),
]
GATES = [{"gate_kernel": "1x1"}, {"gate_kernel": "kxk"}, {"gate_kernel": "1x1", "gate_channels": "each"}]


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "gated", "added"), SHARES, ids=lambda value: str(getattr(value, "keywords", "")))
def test_gates_cost_their_share(backbone, gated: float, added: tuple[float, ...]) -> None:
    for knobs, percent in zip(GATES, added, strict=False):
        with torch.device("meta"):
            built = build(backbone, partial(LCCL, **knobs), scope.blocks, paper_input(backbone))
        skippable = sum(built.cost.macs_of(f"{name}.conv") for name in gated_layers(built.net))
        assert round(100 * skippable / built.baseline.macs, 1) == gated
        assert round(100 * (built.cost.macs / built.baseline.macs - 1), 2) == percent

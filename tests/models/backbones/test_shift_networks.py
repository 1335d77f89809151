"""ShiftNet and ShiftResNet: counts, modules, the small form and what is refused."""

import pytest
import torch
from torch import nn

from models.backbones.shift_resnet import ShiftBlock, shift_resnet
from models.backbones.shiftnet import CSC, shiftnet
from models.cost import count

# depth, expansion, parameters for 10 and for 100 classes, MACs for 10; the authors print 95,642 for the second row.
SHIFT_RESNETS = [
    (20, 1, 34_906, 40_756, 5_948_032),
    (20, 3, 95_642, 101_492, 16_433_792),
    (20, 6, 186_746, 192_596, 32_162_432),
    (56, 1, 102_106, 107_956, 15_385_216),
    (56, 3, 294_554, 300_404, 44_745_344),
    (56, 9, 871_898, 877_748, 132_825_728),
    (110, 1, 202_906, 208_756, 29_540_992),
    (110, 3, 592_922, 598_772, 87_212_672),
    (110, 6, 1_177_946, 1_183_796, 173_720_192),
]
SHIFTNETS = [(1.0, 4_188_680, 4_163_144, 1_424_306_176), (0.5, 1_183_480, 1_170_712, 370_956_288)]


@pytest.mark.parametrize(("depth", "expansion", "params10", "params100", "macs"), SHIFT_RESNETS)
def test_shift_resnet_counts(depth: int, expansion: int, params10: int, params100: int, macs: int) -> None:
    with torch.device("meta"):
        cost = count(shift_resnet(10, depth=depth, expansion=expansion), (3, 32, 32))
        hundred = shift_resnet(100, depth=depth, expansion=expansion)
    assert (cost.params, cost.macs) == (params10, macs)
    assert sum(parameter.numel() for parameter in hundred.parameters()) == params100


@pytest.mark.parametrize(("width", "params", "without_norm", "macs"), SHIFTNETS)
def test_shiftnet_counts(width: float, params: int, without_norm: int, macs: int) -> None:
    with torch.device("meta"):
        cost = count(shiftnet(width=width), (3, 224, 224))
    norms = sum(layer.params for layer in cost.layers if layer.kind == "BatchNorm2d")
    assert (cost.params, cost.params - norms, cost.macs) == (params, without_norm, macs)


@pytest.mark.parametrize(
    ("size", "maps"), [(224, [112, 56, 28, 14, 7]), (32, [32, 32, 16, 8, 4]), (9, [9, 9, 5, 3, 2])]
)
def test_shiftnet_halves_at_the_stem_and_at_each_group(size: int, maps: list[int]) -> None:
    x, sizes = torch.zeros(1, 3, size, size), []
    for module in shiftnet(7, size, width=0.25)[:5]:
        x = module(x)
        sizes.append(x.shape[2])
    assert sizes == maps
    assert x.shape[1] == 128


def test_csc_shifts_by_one_place_a_share_of_its_channels() -> None:
    """With the 1x1 convolutions the identity: the first from the top left, the last from the bottom right."""
    csc = CSC(9, 9, 3, 1, 1).double().eval()
    for conv in (csc.expand, csc.project):
        nn.init.dirac_(conv.weight)
    x = torch.rand(1, 9, 6, 6).double()
    y = (csc(x) - x) * (1 + csc.norm1.eps)  # both norms divide by sqrt(1 + eps)
    torch.testing.assert_close(y[0, 0, 1:, 1:], x[0, 0, :-1, :-1], rtol=0, atol=1e-10)
    torch.testing.assert_close(y[0, 4], x[0, 4], rtol=0, atol=1e-10)
    torch.testing.assert_close(y[0, 8, :-1, :-1], x[0, 8, 1:, 1:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [6, 7])
def test_csc_that_grows_begins_with_its_pooled_input(size: int) -> None:
    x = torch.randn(2, 9, size, size)
    y = CSC(9, 18, 3, 2, 1)(x)
    assert torch.equal(y[:, :9], nn.functional.avg_pool2d(x, 3, 2, padding=1))
    assert y.shape[1] == 18


def test_nothing_follows_the_addition_in_a_shift_block() -> None:
    block = ShiftBlock(16, 16, 1, 1)
    x = torch.randn(2, 16, 5, 5)
    assert (block(x) - x).min() >= -1e-6  # the branch ends with its ReLU
    assert block(x).min() < 0


REFUSALS = [
    (shiftnet, {"width": 0.1}, "width=0.1: .* nearest: 0.21875"),
    (shiftnet, {"input_size": 8}, "input_size=8: .* nearest: 9"),
    (shift_resnet, {"depth": 21, "expansion": 1}, "depth=21: .* nearest: 20"),
    (shift_resnet, {"depth": 20, "expansion": 0}, "expansion=0: .* nearest: 1"),
    (shift_resnet, {"depth": 20, "expansion": 1, "input_size": 7}, "input_size=7: .* nearest: 8"),
]


@pytest.mark.parametrize(("make", "knobs", "message"), REFUSALS)
def test_refusals(make, knobs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**knobs)


def test_the_narrowest_shiftnet() -> None:
    assert shiftnet(10, 32, width=0.21875)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)

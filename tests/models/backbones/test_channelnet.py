"""ChannelNets: counts from the paper's layer table, what the kernels along the channels connect, limits."""

import pytest
import torch

from models.backbones.channelnet import channelnet
from models.cost import count

# Counted layer by layer: 3.7, 2.7, 1.7, 2.3 and 1.2 M parameters in the paper. Its MACs (407, 361, 370 M, ...) are
# 0.87 of these, in every row that has one.
COUNTS = [
    ({"version": "v1"}, 3_703_432, 468_488_704),
    ({"version": "v2"}, 2_652_872, 420_319_744),
    ({"version": "v3"}, 1_629_097, 420_520_744),
    ({"version": "v1", "width": 0.75}, 2_287_464, 269_479_296),
    ({"version": "v1", "width": 0.5}, 1_198_408, 125_061_376),
]


@pytest.mark.parametrize(("own", "params", "macs"), COUNTS, ids=str)
def test_counts(own, params: int, macs: int) -> None:
    with torch.device("meta"):
        cost = count(channelnet(**own), (3, 224, 224))
    assert (cost.params, cost.macs) == (params, macs)


def test_four_groups_save_parameters() -> None:
    """Of the six grouped 1x1 convolutions a quarter is left instead of half; both kernels along the channels grow."""
    with torch.device("meta"):
        params = [count(channelnet(groups=groups), (3, 224, 224)).params for groups in (2, 4)]
    assert params[0] - params[1] == 6 * 512 * 512 // 4 - 2 * (4 * 16 - 2 * 8)


def reach(module: torch.nn.Module) -> torch.Tensor:
    """Which of the 32 inputs each of the 32 outputs hears, at the centre of a 5 x 5 map."""
    x = torch.randn(1, 32, 5, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x)[0, :, 2, 2], x)
    return jacobian.squeeze().abs().sum((2, 3)) > 0


def test_only_fused_modules_let_groups_hear_each_other() -> None:
    net = channelnet(10, 32, 3, width=1 / 16).double().eval()
    fused, grouped = reach(net[7]), reach(net[9])
    assert not grouped[:16, 16:].any()
    assert not grouped[16:, :16].any()
    assert fused[:16, 16:].any()
    assert fused[16:, :16].any()


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("size", [17, 32, 33, 64, 65])
def test_any_size_from_17(version, size: int) -> None:
    assert channelnet(7, size, 1, version=version, width=0.125)(torch.zeros(2, 1, size, size)).shape == (2, 7)


REFUSALS = [
    ({"input_size": 16}, "input_size=16: .* nearest: 17"),
    ({"width": 0.03}, "width=0.03: .* nearest: 0.03125"),
    ({"groups": 3}, "groups=3 must divide the 512 channels of width=1; nearest: 2"),
    ({"version": "v3", "width": 0.5}, "width=0.5: v3 needs a channel a class, but has 512 for 1000; nearest: 0.977"),
]


@pytest.mark.parametrize(("own", "message"), REFUSALS, ids=str)
def test_refusals(own, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        channelnet(**own)


def test_the_nearest_width_works() -> None:
    with torch.device("meta"):
        assert channelnet(version="v3", width=0.977)(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)

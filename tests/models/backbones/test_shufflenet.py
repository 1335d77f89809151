"""ShuffleNet v1 and v2: counts, torchvision's network, scales, the small form and what is refused."""

import pytest
import torch
import torchvision
from torch import nn

from models.backbones.shufflenetv1 import ShuffleNetUnit, shufflenetv1
from models.backbones.shufflenetv2 import shufflenetv2
from models.cost import count

# groups, scale, parameters, MACs at 224 px: counted with an independent implementation.
V1 = [
    (1, 1.0, 1_531_936, 143_078_976),
    (2, 1.0, 1_733_848, 140_836_512),
    (3, 1.0, 1_865_728, 137_460_672),
    (4, 1.0, 1_968_344, 134_339_776),
    (8, 1.0, 2_434_768, 138_365_952),
    (1, 0.25, 209_746, 11_003_184),
    (1, 0.7, 873_120, 71_335_008),
    (3, 0.25, 305_902, 11_009_808),
    (3, 0.5, 718_324, 37_589_856),
    (3, 0.75, 1_238_266, 79_740_144),
    (3, 1.5, 3_443_212, 299_612_448),
    (4, 2.0, 5_593_528, 510_289_536),
    (8, 2.0, 6_522_232, 521_942_016),
]
V2 = [
    (0.5, 1_366_792, 40_476_448),
    (1.0, 2_278_604, 144_907_992),
    (1.5, 3_503_624, 295_759_392),
    (2.0, 7_393_996, 583_253_464),
]


def cost(make, size: int = 224, **knobs):
    with torch.device("meta"):
        return count(make(input_size=size, **knobs), (3, size, size))


@pytest.mark.parametrize(("groups", "scale", "params", "macs"), V1)
def test_v1_counts(groups: int, scale: float, params: int, macs: int) -> None:
    counted = cost(shufflenetv1, groups=groups, scale=scale)
    assert (counted.params, counted.macs) == (params, macs)


@pytest.mark.parametrize(("groups", "scale", "millions"), [(8, 0.5, 1.0), (8, 1.5, 4.3)])
def test_v1_where_widths_are_rounded_has_the_authors_parameters(groups: int, scale: float, millions: float) -> None:
    assert round(cost(shufflenetv1, groups=groups, scale=scale).params / 1e6, 1) == millions


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("scale", [1 / 24, 0.25, 0.5, 0.61])
def test_v1_builds_at_any_scale(groups: int, scale: float) -> None:
    assert cost(shufflenetv1, 32, groups=groups, scale=scale).layers[-1].output_shape == (1, 1000)


def test_v1_only_the_first_1x1_is_not_grouped() -> None:
    with torch.device("meta"):
        net = shufflenetv1(groups=3)
    units = [module for module in net.modules() if isinstance(module, ShuffleNetUnit)]
    assert len(units) == 16
    assert [unit.reduce.groups for unit in units] == [1] + 15 * [3]
    assert {unit.restore.groups for unit in units} == {3}


def test_v1_a_unit_that_grows_ends_with_its_pooled_input() -> None:
    x = torch.rand(2, 12, 7, 7)
    y = ShuffleNetUnit(12, 36, groups=3, first_groups=3)(x)
    assert y.shape == (2, 36, 4, 4)
    assert torch.equal(y[:, 24:], nn.functional.avg_pool2d(x, 3, 2, padding=1))


def test_v1_the_shuffle_lets_each_output_hear_every_group() -> None:
    x = torch.randn(4, 36, 5, 5, requires_grad=True)
    ShuffleNetUnit(36, 36, groups=3, first_groups=3).eval()(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(("scale", "params", "macs"), V2)
def test_v2_is_torchvisions(scale: float, params: int, macs: int) -> None:
    counted = cost(shufflenetv2, scale=scale)
    assert (counted.params, counted.macs) == (params, macs)
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"shufflenet_v2_x{scale}".replace(".", "_")).state_dict()
        ours = shufflenetv2(scale=scale).state_dict()
    assert [(name, value.shape) for name, value in ours.items()] == [(n, value.shape) for n, value in theirs.items()]


@pytest.mark.parametrize("scale", [0.1, 0.75, 1.25, 3.0])
def test_v2_builds_at_any_scale(scale: float) -> None:
    assert cost(shufflenetv2, 32, scale=scale).layers[-1].output_shape == (1, 1000)


@pytest.mark.parametrize("make", [shufflenetv1, shufflenetv2])
@pytest.mark.parametrize(("size", "last"), [(224, 7), (65, 3), (64, 8), (32, 4), (9, 2)])
def test_the_last_map(make, size: int, last: int) -> None:
    spatial = [layer for layer in cost(make, size).layers if len(layer.output_shape) == 4]
    assert spatial[-1].output_shape[2:] == (last, last)


REFUSALS = [
    (shufflenetv1, {"groups": 6}, "groups=6: .* nearest: 4"),
    (shufflenetv1, {"scale": 0.04}, "scale=0.04: .* nearest: 0.0417"),
    (shufflenetv1, {"input_size": 8}, "input_size=8: .* nearest: 9"),
    (shufflenetv2, {"scale": 0.0}, "scale=0.0: .* nearest: 0.1"),
    (shufflenetv2, {"input_size": 8}, "input_size=8: .* nearest: 9"),
]


@pytest.mark.parametrize(("make", "knobs", "message"), REFUSALS)
def test_refusals(make, knobs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**knobs)

"""ResNets and ResNeXts of bottlenecks: counts over depths, cardinalities, widths and both strides."""

import pytest

from models.backbones.bottleneck_resnet import bottleneck_resnet
from tests.models.backbones.counted import counted

RESNEXT50 = {"cardinality": 32, "width": 4}
# Beside the papers' networks, some that pytorchcv builds.
COUNTS = [
    ({}, 25_557_032, 4_089_184_256),
    ({"strided": "1x1"}, 25_557_032, 3_857_973_248),
    ({"blocks": (3, 4, 23, 3)}, 44_549_160, 7_801_405_440),
    ({"blocks": (3, 8, 36, 3)}, 60_192_808, 11_513_626_624),
    ({"blocks": (3, 4, 23, 3), "strided": "1x1"}, 44_549_160, 7_570_194_432),
    (RESNEXT50, 25_028_904, 4_230_479_872),
    (RESNEXT50 | {"blocks": (1, 1, 1, 1)}, 9_411_880, 1_590_820_864),
    ({"cardinality": 8, "width": 14, "blocks": (2, 2, 2, 2)}, 15_785_704, 2_474_721_280),
    ({"cardinality": 64, "width": 4, "blocks": (3, 4, 23, 3)}, 83_455_272, 15_460_270_080),
]


@pytest.mark.parametrize(("knobs", "params", "macs"), COUNTS)
def test_counts(knobs, params: int, macs: int) -> None:
    assert counted(bottleneck_resnet, 224, **knobs) == (params, macs)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"cardinality": 0}, "cardinality=0: .* nearest: 1"),
        ({"width": -4}, "width=-4: .* nearest: 1"),
        ({"blocks": (3, 4, 6)}, r"blocks=\[3, 4, 6\]: .* nearest: \[3, 4, 6, 1\]"),
        ({"blocks": (3, 0, 6, 3)}, r"blocks=\[3, 0, 6, 3\]: .* nearest: \[3, 1, 6, 3\]"),
    ],
)
def test_refusals(knobs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bottleneck_resnet(**knobs)

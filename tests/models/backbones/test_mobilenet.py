"""MobileNet v1 and v2: widths, resolutions and depths of the papers, and timm's network."""

import itertools

import pytest
import timm
import torch
import torchvision
from torch import nn

from models.backbones.mobilenet import mobilenetv1, mobilenetv2
from tests.models.backbones.counted import counted

# Parameters, then MACs at 224, 192, 160 and 128 px.
V1 = {
    1.0: (4_231_976, 568_740_352, 418_121_728, 290_675_200, 186_400_768),
    0.75: (2_585_560, 325_400_448, 239_273_472, 166_396_800, 106_770_432),
    0.5: (1_331_592, 149_497_088, 109_970_432, 76_524_800, 49_160_192),
    0.25: (470_072, 41_030_272, 30_212_608, 21_059_200, 13_570_048),
}


@pytest.mark.parametrize(("width", "resolution"), list(itertools.product(V1, range(4))))
def test_v1_widths_and_resolutions(width: float, resolution: int) -> None:
    params, *macs = V1[width]
    assert counted(mobilenetv1, (224, 192, 160, 128)[resolution], width=width) == (params, macs[resolution])


def test_v1_other_widths() -> None:
    """As pytorchcv builds them."""
    assert counted(mobilenetv1, 224, width=0.3) == (609_004, 56_340_656)
    assert counted(mobilenetv1, 224, width=1.3) == (6_718_156, 946_483_376)


def test_v1_full_and_shallow_as_printed() -> None:
    """Tables 4 and 5: 29.3 M and 4866 M (4867.3 counted), 2.9 M and 307 M."""
    params, macs = counted(mobilenetv1, 224, layer=nn.Conv2d)
    assert (params / 1e6, macs / 1e6) == (pytest.approx(29.3, abs=0.05), pytest.approx(4866, abs=2))
    params, macs = counted(mobilenetv1, 224, depth=18)
    assert (params / 1e6, macs / 1e6) == (pytest.approx(2.9, abs=0.05), pytest.approx(307, abs=0.5))


def test_v1_same_logits_as_timm() -> None:
    ours = mobilenetv1(10, 96).double().eval()
    theirs = timm.create_model("mobilenetv1_100", num_classes=10, act_layer=nn.ReLU).double().eval()
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(other)
        x = torch.randn(2, 3, 96, 96, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("width", [0.1, 0.35, 1.0, 1.4])
def test_v2_is_torchvisions(width: float) -> None:
    def theirs(input_size: int) -> nn.Module:
        return torchvision.models.mobilenet_v2(width_mult=width)

    assert counted(mobilenetv2, 224, width=width) == counted(theirs, 224)


def test_v2_counts() -> None:
    assert counted(mobilenetv2, 224) == (3_504_872, 300_774_272)
    assert counted(mobilenetv2, 224, width=1.4)[1] == pytest.approx(582e6, abs=0.5e6)


@pytest.mark.parametrize("backbone", [mobilenetv1, mobilenetv2])
def test_refuses_to_vanish(backbone) -> None:
    with pytest.raises(ValueError, match="width=0.03: .* nearest: 0.03125"):
        backbone(width=0.03)
    assert backbone(7, 16, 1, width=0.03125).eval()(torch.zeros(1, 1, 16, 16)).shape == (1, 7)


@pytest.mark.parametrize(("depth", "nearest"), [(17, 18), (27, 28), (2, 18)])
def test_v1_refuses_other_depths(depth: int, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}: .* nearest: {nearest}"):
        mobilenetv1(depth=depth)

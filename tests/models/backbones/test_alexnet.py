"""AlexNet in towers: published counts, its response normalisation, and torchvision's single tower."""

from functools import partial

import pytest
import torch
from torch import nn

from models.backbones.alexnet import alexnet
from models.backbones.library import library_network
from tests.models.backbones.counted import counted


def test_counts_in_two_towers_and_in_one() -> None:
    assert counted(alexnet, 227) == (60_965_224, 724_406_816)
    params, macs = counted(alexnet, 227, groups=1)
    assert params == 62_378_344
    assert macs == pytest.approx(1.135e9, abs=0.5e6)
    single_tower = partial(library_network, name="alexnet", library="torchvision")
    assert counted(single_tower, 224) == (61_100_840, 714_188_480)


def test_parameters_of_the_convolutions() -> None:
    with torch.device("meta"):
        convs = [module for module in alexnet().modules() if isinstance(module, nn.Conv2d)]
    assert [sum(p.numel() for p in conv.parameters()) for conv in convs] == [34_944, 307_456, 885_120, 663_936, 442_624]


def test_the_last_map_is_6_wide_at_227_px() -> None:
    with torch.device("meta"):
        net = alexnet(10)
        pooling = next(i for i, module in enumerate(net) if isinstance(module, nn.AdaptiveAvgPool2d))
        assert net[:pooling](torch.zeros(1, 3, 227, 227)).shape == (1, 256, 6, 6)


def test_response_normalisation_over_five_channels() -> None:
    """Section 3.3: a / (2 + 1e-4 sum of a^2 over 5 neighbours)^0.75."""
    with torch.device("meta"):
        norm = next(module for module in alexnet().modules() if isinstance(module, nn.LocalResponseNorm))
    a = torch.full((1, 9, 1, 1), 100.0, dtype=torch.float64)
    assert norm(a)[0, 4].item() == pytest.approx(100 / (2 + 1e-4 * 5 * 100**2) ** 0.75)


@pytest.mark.parametrize(("groups", "nearest"), [(3, 2), (0, 1), (33, 32)])
def test_refuses_other_towers(groups: int, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"groups={groups} .* nearest: {nearest}"):
        alexnet(groups=groups)

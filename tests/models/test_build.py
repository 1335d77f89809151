"""A whole build: the baseline that changes nothing, and budgets against published totals."""

import re
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from callbacks.complexity import rebuild_lines
from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input, build, paper_input
from models.layers.shift import Shift
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided
from models.scope import inner, spatial

DATA = Input(10, 32, 3)
resnet20 = partial(cifar_resnet, depth=20)
resnet8 = partial(cifar_resnet, depth=8)


def linear(num_classes: int, input_size: int, in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * input_size**2, num_classes))


def test_the_baseline_may_change_nothing() -> None:
    assert build(linear, nn.Conv2d, spatial, DATA).swaps == build(linear, partial(nn.Conv2d), spatial, DATA).swaps == []
    with pytest.raises(ValueError, match=r"no nn.Conv2d to replace; only model/layer=conv"):
        build(linear, SIC, spatial, DATA)


def test_the_baseline_is_called_so() -> None:
    built = build(resnet20, partial(nn.Conv2d), spatial, DATA)
    assert not any(swap.replaced for swap in built.swaps)
    assert built.cost == built.baseline
    assert rebuild_lines(built) == [
        "the baseline: 19 convolutions as they are",
        f"parameters {built.cost.params:,}, MACs {built.cost.macs:,}",
    ]


# Totals of Wang, Liu, Foroosh (arXiv:1608.04337): 845 M and 1,172 M MACs; ResNet-34's 3.66 G over 7.32; and a thirtieth
# of VGG-16's 15.47 G as an upper limit. With how far below each the network may stay.
PAPER = [
    ("resnet50_sic", 845e6, 0.01),
    ("resnet101_sic", 1172e6, 0.01),
    ("resnet34_sic", 3.66e9 / 7.32, 0.02),
    ("vgg16_sic", 15.47e9 / 30, 0.03),
]


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "macs", "tolerance"), PAPER)
def test_presets_meet_the_papers_totals(composed, preset: str, macs: float, tolerance: float) -> None:
    model = instantiate(composed(f"model={preset}", config="complexity").model, _convert_="all")
    with torch.device("meta"):
        built = build(**model, input=paper_input(model["backbone"]))
    assert (1 - tolerance) * macs <= built.cost.macs <= macs * 1.001
    if built.choice:
        assert built.cost.macs <= built.choice.budget
        assert str(built.choice).startswith(f"budget of {built.choice.budget:,.0f} MACs: projection.kept = ")


@pytest.mark.slow
def test_a_budget_is_met_from_below_and_closely() -> None:
    layer = partial(SIC, projection=partial(Subdivided))
    by_hand = [build(resnet20, _kept(kept), inner, DATA).cost.macs for kept in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)]
    smallest = None
    for ratio in (6.5, 8.0, 10.0, 14.0):
        built = build(resnet20, layer, inner, DATA, budget_ratio=ratio)
        budget = built.baseline.macs / ratio
        assert max(macs for macs in by_hand if macs <= budget) <= built.cost.macs <= budget
        assert smallest is None or built.cost.macs < smallest
        smallest = built.cost.macs


def test_a_budget_counts_the_convolutions_that_stay() -> None:
    """A Shift of 3 costs more than a strided 1x1 shortcut, and of 4 more than most of the convolutions."""
    backbone = partial(cifar_resnet, depth=8, shortcut="B")
    by_hand = build(backbone, partial(Shift, expansion=3), inner, DATA)
    assert 0 < sum("would cost more" in swap.reason for swap in by_hand.swaps) < len(by_hand.swaps) - 1
    built = build(backbone, Shift, inner, DATA, budget_macs=by_hand.cost.macs)
    assert built.cost == by_hand.cost
    with pytest.raises(ValueError, match=r"they reach [\d,]+ to ([\d,]+) MACs") as refusal:
        build(backbone, Shift, inner, DATA, budget_macs=1e9)
    assert int(re.search(r" to ([\d,]+) MACs", str(refusal.value))[1].replace(",", "")) <= built.baseline.macs


class Quarters(nn.Module):
    """(N, C, 6, 6) -> (4 N, C, 3, 3)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part for rows in x.split(3, 2) for part in rows.split(3, 3)])


def on_quarters(num_classes: int, input_size: int, in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 12, 1), Quarters(), nn.Conv2d(12, 12, 3, padding=1))


def test_a_budget_counts_every_part_of_an_image() -> None:
    """A unit of SIC costs 12 (9 + 12) MACs a position, and there are 36 in the four quarters; the stem costs 3 x 12."""
    unit, stem = 36 * 12 * (9 + 12), 36 * 3 * 12
    built = build(on_quarters, SIC, spatial, Input(10, 6, 3), budget_macs=stem + 2.5 * unit)
    assert built.choice is not None
    assert built.choice.values == {"2": 2}
    assert built.cost.macs == stem + 2 * unit


def _kept(kept: float):
    return partial(SIC, projection=partial(Subdivided, kept=kept))


def test_what_the_budget_chose_is_in_the_network() -> None:
    built = build(resnet8, partial(SIC, norm="both"), spatial, DATA, budget_macs=4e6)
    depths = {name: len(built.net.get_submodule(name)) for name in built.choice.values}
    assert depths == built.choice.values
    assert built.choice.knob == "depth"
    assert built.net.get_submodule("stage1.0.conv1")[0].depthwise_norm.num_features == 16  # other arguments stay


def test_an_unreachable_budget_names_the_range() -> None:
    least = build(resnet8, SIC, spatial, DATA).cost.macs
    with pytest.raises(ValueError, match=rf"of 1,000 MACs cannot be met by depth from 1 to 6: they reach {least:,} to"):
        build(resnet8, SIC, spatial, DATA, budget_macs=1000)
    with pytest.raises(ValueError, match=r"depth from 1 to 6: they reach"):
        build(resnet8, SIC, spatial, DATA, budget_macs=1e9)


def test_a_budget_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Conv2d has no knob .* set model.budget_macs, model.budget_ratio and"):
        build(resnet8, partial(nn.Conv2d), spatial, DATA, budget_ratio=2)
    with pytest.raises(ValueError, match=r"model.budget_macs=1e\+07 and model.budget_ratio=4: give one"):
        build(resnet8, SIC, spatial, DATA, budget_macs=1e7, budget_ratio=4)
    with pytest.raises(ValueError, match=r"model.budget_ratio=-1: must be positive; this network has 12,239,488 MACs"):
        build(resnet8, SIC, spatial, DATA, budget_ratio=-1)


def test_the_training_log_says_what_was_chosen() -> None:
    built = build(resnet8, SIC, spatial, DATA, budget_macs=4e6)
    assert rebuild_lines(built)[0] == str(built.choice)

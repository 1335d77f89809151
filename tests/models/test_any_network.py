"""Networks of timm and torchvision, one of each kind that counting or building once stumbled over."""

from functools import partial
from typing import Literal

import pytest
import torch
from torch import nn

from models.backbones.library import library_network
from models.build import Built, Input, build
from models.layers.sic import SIC
from models.scope import spatial

Library = Literal["timm", "torchvision"]


def built(name: str, library: Library, layer=nn.Conv2d, size: int = 224) -> Built:
    with torch.device("meta"):
        return build(partial(library_network, name=name, library=library), layer, spatial, Input(1000, size, 3))


# What is counted by operators alone in each, and MACs where fvcore 0.1.5 gave them (attention not fused).
ALONE = [
    ("regnet_y_400mf", "torchvision", set(), None),  # reads numbers that it computed with tensors
    ("vit_b_16", "torchvision", {"MultiheadAttention"}, None),  # a layer that returns a tuple
    ("rdnet_tiny", "timm", set(), None),  # a layer that takes a list
    ("cait_xxs24_224", "timm", {"ClassAttn", "TalkingHeadAttn"}, None),  # a parameter as an input
    ("efficientnet_cc_b0_4e", "timm", {"CondConv2d"}, None),  # weights that depend on the image
    ("vit_tiny_patch16_384", "timm", {"Attention"}, 1_253_683_200),  # made for another size than 224
    ("swin_tiny_patch4_window7_224", "timm", {"WindowAttention"}, 4_490_566_656),
    ("resnetblur18", "timm", {"BlurPool2d"}, 2_337_684_992),  # convolves with a buffer
    ("gcresnet50t", "timm", {"GlobalContext"}, 4_126_879_744),  # multiplies in a module without parameters
    ("lambda_resnet26t", "timm", {"LambdaLayer"}, 2_300_008_448),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "library", "alone", "macs"), ALONE, ids=[name for name, *_ in ALONE])
def test_builds_and_counts(name: str, library: Library, alone: set[str], macs: int | None) -> None:
    cost = built(name, library).cost
    assert {layer.kind for layer in cost.layers if layer.operators} == alone
    assert 0 <= cost.macs_by_operators < cost.macs
    assert macs is None or cost.macs == macs


@pytest.mark.parametrize(
    ("name", "library"),
    [("regnet_y_400mf", "torchvision"), ("resnetblur18", "timm"), ("davit_tiny", "timm"), ("rdnet_tiny", "timm")],
)
def test_rebuilds(name: str, library: Library) -> None:
    rebuilt = built(name, library, SIC)
    assert any(swap.replaced for swap in rebuilt.swaps)
    assert rebuilt.cost.macs < rebuilt.baseline.macs
    assert rebuilt.cost.macs_by_operators == rebuilt.baseline.macs_by_operators


def test_a_network_without_convolutions_to_replace_says_so() -> None:
    with pytest.raises(ValueError, match=r"the scope and the layer leave all 1 convolutions as they are \(patch_embed"):
        built("vit_tiny_patch16_224", "timm", SIC)

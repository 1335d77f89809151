"""Backbones times layers times input sizes: each builds, keeps its shape and learns with every parameter."""

import itertools

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from models.build import Input, build, paper_input
from tests.conftest import choices

BACKBONES = ("resnet18", "resnet50", "vgg16_bn", "mobilenetv2_100", "resnet20")
LAYERS = ("conv", "sic", "lccl")


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "layer", "size"), list(itertools.product(BACKBONES, LAYERS, (32, 224))))
def test_builds_and_trains_a_step(composed, backbone: str, layer: str, size: int) -> None:
    # On depthwise convolutions a k x k gate costs as much, SIC more.
    mobile = {"lccl": ["model.layer.gate_kernel=1x1"], "sic": ["model/layer=sic_subdivided", "model/scope=inner"]}
    own = mobile.get(layer, []) if backbone == "mobilenetv2_100" else []
    model = instantiate(composed(f"model/backbone={backbone}", f"model/layer={layer}", *own).model, _convert_="all")
    built = build(**model, data=Input(7, size, 3))
    assert any(swap.replaced for swap in built.swaps) == (layer != "conv")
    images, labels = torch.randn(2, 3, size, size), torch.tensor([0, 6])
    before = {name: parameter.detach().clone() for name, parameter in built.net.named_parameters()}
    logits = built.net(images)
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, labels).backward()
    torch.optim.SGD(built.net.parameters(), lr=0.1, weight_decay=0.1).step()
    for name, parameter in built.net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert not before[name].count_nonzero() or not torch.equal(before[name], parameter), name


# These refuse the convolutions larger than 1x1 of networks where all of them are depthwise or grouped.
NEED_ALL_CHANNELS = {"bottleneck", "channelwise", "fire", "group_channelwise", "shift", "shuffle_unit"} | {
    "sic_subdivided",
    "spatial_bottleneck_subdivided",
    "subdivided",
}
# These cost more than a depthwise convolution.
ADD_TO_DEPTHWISE = {"bases", "separable", "sic", "single_basis"}
REFUSED = {
    "mobilenetv2_100": NEED_ALL_CHANNELS | ADD_TO_DEPTHWISE | {"ghost", "grouped", "lccl"},
    "regnety_004": NEED_ALL_CHANNELS,
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet20", "resnet18", "resnet50", "vgg16_bn", "mobilenetv2_100", "regnety_004"])
def test_every_layer_builds_or_says_why_not(composed, backbone: str) -> None:
    reasons = {}
    for layer in choices("model/layer"):
        model = instantiate(composed(f"model/backbone={backbone}", f"model/layer={layer}").model, _convert_="all")
        try:
            with torch.device("meta"):
                built = build(**model, data=paper_input(model["backbone"]))
        except ValueError as refusal:
            reasons[layer] = str(refusal)
        else:
            assert all(swap.replaced or swap.reason for swap in built.swaps)
    assert set(reasons) == REFUSED.get(backbone, set())
    assert all("convolutions as they are" in text for text in reasons.values())
    assert {layer for layer, text in reasons.items() if "nearest: " not in text} == set(reasons) & ADD_TO_DEPTHWISE
    assert all("would cost more MACs" in reasons[layer] for layer in set(reasons) & ADD_TO_DEPTHWISE)


PAPER_INPUTS = ["model/backbone=timm model.backbone.name=efficientnet_b0", "model/backbone=resnet50"]


@pytest.mark.slow
@pytest.mark.parametrize("network", PAPER_INPUTS)
def test_no_layer_makes_a_network_dearer_in_silence(composed, network: str) -> None:
    """Under scope=inner, where the 1x1 convolutions of a mobile network meet layers made for k x k ones."""
    ratios, refused = {}, {}
    for layer in choices("model/layer"):
        overrides = (*network.split(), f"model/layer={layer}", "model/scope=inner")
        model = instantiate(composed(*overrides).model, _convert_="all")
        try:
            with torch.device("meta"):
                built = build(**model, data=paper_input(model["backbone"]))
        except ValueError as refusal:
            refused[layer] = str(refusal)
        else:
            ratios[layer] = built.cost.macs / built.baseline.macs
    assert all("would cost" in text for text in refused.values())
    assert 1 < ratios.pop("lccl") < 1.01  # the gates
    assert ratios.pop("conv") == ratios.pop("dilated") == 1
    assert max(ratios.values()) < 1


@pytest.mark.slow
@pytest.mark.parametrize("layer", sorted(NEED_ALL_CHANNELS - {"fire", "shift", "bottleneck", "shuffle_unit"}))
def test_the_pointwise_convolutions_of_a_mobile_network_can_be_replaced(composed, layer: str) -> None:
    overrides = ("model/backbone=mobilenetv2_100", "model/scope=inner", f"model/layer={layer}")
    model = instantiate(composed(*overrides).model, _convert_="all")
    with torch.device("meta"):
        built = build(**model, data=paper_input(model["backbone"]))
    assert built.cost.macs < built.baseline.macs

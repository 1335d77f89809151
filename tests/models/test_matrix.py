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
    # A k x k gate costs as much as a depthwise convolution.
    gate = ["model.layer.gate_kernel=1x1"] if layer == "lccl" and backbone == "mobilenetv2_100" else []
    model = instantiate(composed(f"model/backbone={backbone}", f"model/layer={layer}", *gate).model, _convert_="all")
    built = build(**model, data=Input(7, size, 3))
    assert any(swap.replaced for swap in built.swaps)
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
REFUSED = {
    "mobilenetv2_100": NEED_ALL_CHANNELS | {"ghost", "grouped", "lccl"},
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
    assert all("convolutions as they are" in text and "nearest: " in text for text in reasons.values())


@pytest.mark.slow
@pytest.mark.parametrize("layer", sorted(NEED_ALL_CHANNELS - {"fire", "shift", "bottleneck", "shuffle_unit"}))
def test_the_pointwise_convolutions_of_a_mobile_network_can_be_replaced(composed, layer: str) -> None:
    overrides = ("model/backbone=mobilenetv2_100", "model/scope=inner", f"model/layer={layer}")
    model = instantiate(composed(*overrides).model, _convert_="all")
    with torch.device("meta"):
        built = build(**model, data=paper_input(model["backbone"]))
    assert built.cost.macs < built.baseline.macs

"""Layers times networks: what each layer replaces in each kind of network, what it costs there, and that it learns."""

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from models import scope
from models.build import Built, Input, build, paper_input
from models.rebuild import replacement, survey
from tests.conftest import PINNED_LAYERS, choices

LAYERS = choices("model/layer")


def trained_a_step(built: Built, size: int, device: str) -> None:
    """Every parameter of `built` for 7 classes and 3 colours gets a gradient; on a real device it changes too."""
    images, labels = torch.randn(4, 3, size, size, device=device), torch.tensor([0, 6, 2, 2], device=device)
    before = {name: parameter.detach().clone() for name, parameter in built.net.named_parameters()}
    logits = built.net(images)
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, labels).backward()
    torch.optim.SGD(built.net.parameters(), lr=0.1, weight_decay=0.1).step()
    for name, parameter in built.net.named_parameters():
        assert parameter.grad is not None, name
        if device != "meta":
            assert parameter.grad.isfinite().all(), name
            assert not before[name].count_nonzero() or not torch.equal(before[name], parameter), name


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_trains_a_step(composed, layer: str) -> None:
    choice = ("model/backbone=resnet20", "model.backbone.depth=8", f"model/layer={layer}")
    built = build(**instantiate(composed(*choice).model, _convert_="all"), input=Input(7, 16, 3))
    assert any(swap.replaced for swap in built.swaps) == (layer != "conv")
    trained_a_step(built, 16, "cpu")


# On depthwise convolutions a k x k gate costs as much, SIC more.
OWN = {
    ("mobilenetv2_100", "lccl"): ["model.layer.gate_kernel=1x1"],
    ("mobilenetv2_100", "sic"): ["model/layer=sic_subdivided", "model/scope=inner"],
}


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["sic", "lccl"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "vgg16_bn", "mobilenetv2_100"])
def test_the_networks_of_the_libraries_reach_every_parameter(composed, backbone: str, layer: str) -> None:
    """Their shapes and gradients without the arithmetic."""
    choice = (f"model/backbone={backbone}", f"model/layer={layer}", *OWN.get((backbone, layer), []))
    model = instantiate(composed(*choice).model, _convert_="all")
    with torch.device("meta"):
        built = build(**model, input=Input(7, 32, 3))
    assert any(swap.replaced for swap in built.swaps)
    trained_a_step(built, 32, "meta")


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
@pytest.mark.parametrize("backbone", ["resnet20", "mobilenetv2_100", "regnety_004"])
def test_every_layer_replaces_something_or_says_why_not(composed, backbone: str) -> None:
    make = instantiate(composed(f"model/backbone={backbone}").model.backbone, _convert_="all")
    with torch.device("meta"):
        places = survey(make(), scope.spatial, (1, *paper_input(make).shape)).places
        kinds = {(place.geometry, place.input_shape): place for place in places}.values()
        reasons = {
            layer: [replacement(configured(composed, layer), place)[1] for place in kinds]
            for layer in LAYERS
            if layer != "conv"
        }
    refused = {layer: texts for layer, texts in reasons.items() if all(texts)}
    assert set(refused) & PINNED_LAYERS == REFUSED.get(backbone, set())
    cost = "would cost more MACs"
    dear = {layer for layer, texts in refused.items() if all(cost in text for text in texts)}
    assert dear & PINNED_LAYERS == set(refused) & ADD_TO_DEPTHWISE
    assert all(cost in text or "nearest: " in text for texts in refused.values() for text in texts)


def configured(composed, layer: str):
    return instantiate(composed(f"model/layer={layer}").model.layer, _convert_="all")


# Bottlenecks of a ResNet, and those of a mobile network, with what its depthwise convolutions and its 1x1 refuse.
INNER = {
    "resnet14t": set(),
    "lcnet_100": {"bases", "separable", "shift", "sic", "single_basis"},
}


@pytest.mark.slow
@pytest.mark.parametrize("network", INNER)
def test_no_layer_makes_a_network_dearer_in_silence(composed, network: str) -> None:
    """Under scope=inner, where the 1x1 convolutions of a mobile network meet layers made for k x k ones."""
    ratios, refused = {}, {}
    for layer in LAYERS:
        overrides = ("model/backbone=timm", f"model.backbone.name={network}", f"model/layer={layer}")
        model = instantiate(composed(*overrides, "model/scope=inner").model, _convert_="all")
        try:
            with torch.device("meta"):
                built = build(**model, input=paper_input(model["backbone"]))
        except ValueError as refusal:
            refused[layer] = str(refusal)
        else:
            ratios[layer] = built.cost.macs / built.baseline.macs
    assert set(refused) & PINNED_LAYERS == INNER[network]
    assert all("would cost" in text for text in refused.values())
    assert 1 < ratios.pop("lccl") < 1.01  # the gates
    assert 1 < ratios.pop("lccl_published") < 1.02  # gates of 1x1, which depthwise convolutions take as well
    assert ratios.pop("conv") == ratios.pop("dilated") == 1
    assert max(ratios.values()) < 1

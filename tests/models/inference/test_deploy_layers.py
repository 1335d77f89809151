"""Every layer in several networks, deployed: the same to rounding."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from models.build import Input, build
from models.inference.deploy import deploy
from tests.conftest import choices
from tests.models.inference.deployed import assert_same, randomise

SIZES = {"resnet18": 64, "vgg16_bn": 32, "mobilenetv2_100": 64, "preact_resnet20": 32}
NOT_DEPTHWISE = {"lccl": ["model.layer.gate_kernel=1x1"]}  # what a layer needs in a network of depthwise convolutions


def network(composed, backbone: str, layer: str) -> nn.Module:
    """`layer` in place of the spatial convolutions, or where it refuses all of these of the 1x1 ones too."""
    refusals = []
    for scope in ("spatial", "inner"):
        extra = NOT_DEPTHWISE.get(layer, []) if backbone == "mobilenetv2_100" else []
        choice = (f"model/backbone={backbone}", f"model/layer={layer}", f"model/scope={scope}", *extra)
        model = instantiate(composed(*choice).model, _convert_="all")
        try:
            net = build(**model, data=Input(7, SIZES[backbone], 3)).net
            if backbone == "vgg16_bn":
                net.classifier = nn.Linear(512 * 7 * 7, 7)  # the usual ones take gigabytes, and no layer replaces them
            return net
        except ValueError as refusal:
            refusals.append(str(refusal))
    pytest.skip(" / ".join(refusals))


@pytest.mark.slow
@pytest.mark.parametrize("layer", choices("model/layer"))
@pytest.mark.parametrize("backbone", SIZES)
def test_every_layer_deploys(composed, backbone: str, layer: str) -> None:
    net, images = network(composed, backbone, layer).eval(), torch.randn(4, 3, SIZES[backbone], SIZES[backbone])
    randomise(net)
    with torch.no_grad():
        assert_same(deploy(net)(images), net(images), rounding=1e-4)
        net, images = net.double(), images.double()
        assert_same(deploy(net)(images), net(images), rounding=1e-10)

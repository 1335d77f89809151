"""Every layer in each kind of network, and every kind of network in conf/, deployed: the same to rounding."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torchvision.models import MobileNetV2

from conf import schema
from models import scope
from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.preact_resnet import preact_resnet
from models.build import Input, build
from models.inference.deploy import deploy
from tests.conftest import PINNED_LAYERS, choices
from tests.models.inference.deploy_every_network import row
from tests.models.inference.deployed import assert_same, plain, randomise

# Inverted residuals without and with expansion, shortcut and stride: expansion, channels, layers, stride.
INVERTED = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 1, 2]]


def mobilenet(num_classes: int, input_size: int, in_channels: int) -> nn.Module:
    return MobileNetV2(num_classes, 1.0, INVERTED)


BACKBONES = {
    "plain": plain,
    "resnet": partial(cifar_resnet, depth=8, shortcut="B"),
    "preact_resnet": partial(preact_resnet, depth=8, block="basic", shortcut="A"),
    "mobilenet": mobilenet,
}
# What makes no convolution of the mobile network cheaper, or takes none of them (see tests/models/test_matrix.py).
NOT_IN_MOBILENETS = {"bases", "separable", "shift", "sic", "single_basis"}
ODD = dict.fromkeys(["resnet", "preact_resnet", "mobilenet"], (17, 15))  # what is plain takes one size
GATES = {"lccl": ["model.layer.gate_kernel=1x1"]}  # cheaper than a depthwise convolution too


def network(backbone: str, layer: partial) -> nn.Module:
    """`layer` in place of the spatial convolutions; in a mobile network, where these are depthwise, of the 1x1 too."""
    where = scope.inner if backbone == "mobilenet" else scope.spatial
    return build(BACKBONES[backbone], layer, where, Input(7, 16, 3)).net


@pytest.mark.slow  # a quarter of a minute in all
@pytest.mark.parametrize("layer", choices("model/layer"))
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_layer_deploys(composed, backbone: str, layer: str) -> None:
    made = instantiate(composed(f"model/layer={layer}", *GATES.get(layer, [])).model.layer, _convert_="all")
    if backbone == "mobilenet" and layer in NOT_IN_MOBILENETS:
        with pytest.raises(ValueError, match="convolutions as they are"):
            network(backbone, made)
        return
    try:
        net, images = network(backbone, made).eval(), torch.randn(2, 3, 16, 16)
    except ValueError:
        if backbone == "mobilenet" and layer not in PINNED_LAYERS:
            return  # a layer that is added may make no convolution of a mobile network cheaper
        raise
    randomise(net)
    with torch.no_grad():
        assert_same(deploy(net)(images), net(images), rounding=1e-4)
        net, images = net.double(), images.double()
        deployed = deploy(net)
        for given in (images, images[:1], images[:0], torch.randn(1, 3, *ODD.get(backbone, (16, 16))).double()):
            assert_same(deployed(given), net(given), rounding=1e-10)


# Their blocks are the least usual ones; deploy_every_network.py beside this file takes all backbones.
UNUSUAL = [
    *("channelnet", "factorized", "ghostnet", "googlenet", "mobilenetv2_100", "p4_all_cnn_c", "regnety_004"),
    *("shift_resnet20", "shiftnet_b", "shufflenetv1", "shufflenetv2", "squeezenet1_1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", UNUSUAL)
def test_unusual_backbones_deploy(backbone: str) -> None:
    schema.register()
    found = row(f"conf:{backbone}")
    assert found["status"] == "equal", found

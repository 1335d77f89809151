"""Channels last: as Module.to where that works, and where it fails, on three-dimensional convolutions."""

import copy

import pytest
import timm
import torch
from torch import nn

from models.backbones.channelnet import channelnet
from models.inference.deploy import deploy
from models.memory_format import channels_last


def test_is_module_to_where_that_works() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    expected = copy.deepcopy(net).to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    assert channels_last(net) is net
    assert all(one is other for one, other in zip(parameters, net.parameters(), strict=True))
    for ours, theirs in zip(net.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


@pytest.mark.parametrize(
    "net",
    [lambda: channelnet(10, 32, 3, version="v3", width=1 / 16), lambda: timm.create_model("lambda_resnet26t")],
    ids=["channelnet_v3", "lambda_resnet26t"],
)
def test_networks_with_other_convolutions_compute_the_same_and_learn(net) -> None:
    network = net().eval()
    images = torch.randn(2, 3, 32, 32)
    expected = network(images)
    torch.testing.assert_close(channels_last(network)(images), expected)
    network(images.contiguous(memory_format=torch.channels_last)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


class Volume(nn.Module):
    """A convolution over channels and space, as in lambda networks and ChannelNet-v3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.volume = nn.Conv3d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.volume(self.conv(x).unsqueeze(1)).flatten(1)


@pytest.mark.parametrize("net", [Volume, lambda: channelnet(10, 32, 3, version="v3", width=1 / 16)])
def test_such_networks_are_deployed(net) -> None:
    network, images = net().eval(), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(deploy(network)(images), network(images), rtol=1e-4, atol=1e-5)

"""GoogLeNet as published, and torchvision's with BatchNorm: counts and structure."""

from functools import partial

import torch
from torch import nn

from models.backbones.googlenet import googlenet_original
from models.backbones.library import library_network
from tests.models.backbones.counted import counted


def test_counts() -> None:
    assert counted(googlenet_original, 224) == (6_998_552, 1_582_671_872)
    normalised = partial(library_network, name="googlenet", library="torchvision")
    assert counted(normalised, 224) == (6_624_904, 1_498_376_192)


def test_nine_5x5_and_two_response_normalisations() -> None:
    """Table 1: 57 convolutions; each with a ReLU behind it, none with a BatchNorm."""
    with torch.device("meta"):
        modules = list(googlenet_original().modules())
    convs = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert (len(convs), sum(conv.kernel_size == (5, 5) for conv in convs)) == (57, 9)
    for kind, number in ((nn.ReLU, 57), (nn.LocalResponseNorm, 2), (nn.BatchNorm2d, 0)):
        assert sum(isinstance(module, kind) for module in modules) == number


def test_maps_are_those_of_table_1() -> None:
    with torch.device("meta"):
        net = googlenet_original().eval()
        sizes = {}
        for name in ("conv1", "maxpool1", "maxpool2", "inception3b", "inception4e", "inception5b"):
            net.get_submodule(name).register_forward_hook(
                lambda module, args, output, name=name: sizes.update({name: tuple(output.shape[1:])})
            )
        net(torch.zeros(1, 3, 224, 224))
    assert list(sizes.values()) == [
        (64, 112, 112),
        (64, 56, 56),
        (192, 28, 28),
        (480, 28, 28),
        (832, 14, 14),
        (1024, 7, 7),
    ]

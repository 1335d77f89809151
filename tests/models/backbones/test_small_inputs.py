"""How small an image each network takes: at the smallest its last map is 2 x 2, below that it refuses."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models.backbones.alexnet import alexnet
from models.backbones.bottleneck_resnet import bottleneck_resnet
from models.backbones.googlenet import googlenet_original
from models.backbones.mobilenet import mobilenetv1, mobilenetv2
from models.backbones.squeezenet import squeezenet
from models.backbones.vgg import vgg16_cifar

SMALLEST = [
    (partial(squeezenet, version="1.0"), 8),
    (partial(squeezenet, version="1.1"), 8),
    (mobilenetv1, 9),
    (mobilenetv2, 9),
    (alexnet, 11),
    (googlenet_original, 16),
    (vgg16_cifar, 2),
    (bottleneck_resnet, 9),
]


def last_map(net: nn.Module, size: int) -> int:
    """The side of the smallest map, the final pooling's left out."""
    sides = []

    def watch(module: nn.Module, args: tuple, output: Tensor) -> None:
        if output.ndim == 4 and not isinstance(module, nn.AdaptiveAvgPool2d):
            sides.append(output.shape[-1])

    for module in net.modules():
        if module is not net:
            module.register_forward_hook(watch)
    assert net(torch.zeros(2, 1, size, size)).shape == (2, 7)
    return min(sides)


@pytest.mark.parametrize(("backbone", "smallest"), SMALLEST)
def test_2_x_2_or_a_refusal(backbone: Callable[..., nn.Module], smallest: int) -> None:
    with torch.device("meta"):
        assert last_map(backbone(7, smallest, 1), smallest) == 2
        with pytest.raises(ValueError, match=f"input_size={smallest - 1}: .* nearest: {smallest}"):
            backbone(7, smallest - 1, 1)


@pytest.mark.parametrize("backbone", [backbone for backbone, _ in SMALLEST])
@pytest.mark.parametrize("size", [28, 64, 65, 99])
def test_every_size_above(backbone: Callable[..., nn.Module], size: int) -> None:
    with torch.device("meta"):
        assert last_map(backbone(7, size, 1), size) >= 2

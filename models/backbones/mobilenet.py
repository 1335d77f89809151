"""MobileNet v1 and v2 at any width."""

from collections.abc import Callable

from torch import nn
from torchvision.models import MobileNetV2

from ..layers.separable import Separable
from . import SMALL_INPUT, require_room


def mobilenetv1(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    width: float = 1.0,
    depth: int = 28,
    layer: Callable[..., nn.Module] = Separable,
) -> nn.Module:
    """A strided stem, then layers of depthwise 3x3 and 1x1, all with BatchNorm and ReLU; pooling and a classifier.

    Source: Howard et al. 2017, "MobileNets", arXiv:1704.04861, table 1. `width` multiplies the channels of
    every layer, rounded down. `depth` counts depthwise and 1x1 convolutions: 28 in the paper, 18 without the five
    layers at 14 x 14, its shallow network. `layer` takes nn.Conv2d's arguments; nn.Conv2d itself gives the full
    convolutions of its table 4.
    CIFAR form, at most 64 px: the first two of the five halvings (stem, second layer) have stride 1.
    Differs: the last layer has stride 1, where the table prints 2 and gives it an input and output of 7 x 7.
    """
    _require(input_size, width)
    if depth < 18 or depth % 2:
        nearest = max(18, depth + depth % 2)
        raise ValueError(f"depth={depth}: 18 convolutions and further pairs of them; nearest: {nearest}")
    early = 1 if input_size <= SMALL_INPUT else 2
    stages = [(64, 1), (128, early), (128, 1), (256, 2), (256, 1), (512, 2)]
    stages += [(512, 1)] * ((depth - 18) // 2) + [(1024, 2), (1024, 1)]
    inputs = int(32 * width)
    body = [nn.Conv2d(in_channels, inputs, 3, early, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()]
    for channels, stride in stages:
        outputs = int(channels * width)
        body += [layer(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def mobilenetv2(
    num_classes: int = 1000, input_size: int = 224, in_channels: int = 3, *, width: float = 1.0
) -> nn.Module:
    """torchvision's network: inverted residuals whose last convolution is linear, with ReLU6.

    Source: Sandler et al. 2018, "MobileNetV2", arXiv:1801.04381, table 2. `width` multiplies the channels, rounded
    to multiples of 8, and those of the last convolution only where it is above 1.
    CIFAR form, at most 64 px: the first two of the five halvings (stem, second stage) have stride 1.
    """
    _require(input_size, width)
    early = 1 if input_size <= SMALL_INPUT else 2
    stages = [[1, 16, 1, 1], [6, 24, 2, early], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2]]
    net = MobileNetV2(num_classes, width, [*stages, [6, 320, 1, 1]])  # expansion, channels, layers, stride
    stem = net.get_parameter("features.0.0.weight").shape[0]
    net.set_submodule("features.0.0", nn.Conv2d(in_channels, stem, 3, early, 1, bias=False))
    return net


def _require(input_size: int, width: float) -> None:
    require_room(input_size, 9, "three halvings")
    if width * 32 < 1:
        raise ValueError(f"width={width}: at least one of the stem's 32 channels must stay; nearest: {1 / 32}")

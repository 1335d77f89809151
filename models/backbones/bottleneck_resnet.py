"""ResNets and ResNeXts of bottlenecks, at any depth, cardinality and width."""

from collections.abc import Sequence
from typing import Literal

from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from . import SMALL_INPUT, require_room


def bottleneck_resnet(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    blocks: Sequence[int] = (3, 4, 6, 3),
    cardinality: int = 1,
    width: int = 64,
    strided: Literal["1x1", "3x3"] = "3x3",
) -> nn.Module:
    """torchvision's network: four stages of `blocks` bottlenecks (1x1, 3x3 in `cardinality` groups, 1x1).

    Source: He et al. 2016, "Deep Residual Learning", arXiv:1512.03385, table 1; Xie et al. 2017,
    "Aggregated Residual Transformations", arXiv:1611.05431, whose 32x4d is cardinality 32 and `width` 4 channels a
    group in the first stage. `strided` is the convolution of a bottleneck that halves the map: the first 1x1 in the
    authors' ResNets, the 3x3 in ResNeXt and in nearly all later ones.
    CIFAR form, at most 64 px: the stem is 3x3 with stride 1 and the pooling behind it is left out.
    """
    _require(input_size, blocks, cardinality, width)
    net = ResNet(Bottleneck, list(blocks), num_classes, groups=cardinality, width_per_group=width)
    if input_size <= SMALL_INPUT:
        net.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        net.set_submodule("maxpool", nn.Identity())
    else:
        net.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
    for module in net.modules():
        if strided == "1x1" and isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
    return net


def _require(input_size: int, blocks: Sequence[int], cardinality: int, width: int) -> None:
    require_room(input_size, 9, "three halvings")
    if len(blocks) != 4 or min(blocks) < 1:
        nearest = [max(1, n) for n in (*blocks, 1, 1, 1, 1)[:4]]
        raise ValueError(f"blocks={list(blocks)}: four stages of at least one block; nearest: {nearest}")
    for name, value in (("cardinality", cardinality), ("width", width)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1; nearest: 1")

"""GoogLeNet as it was first published: 5x5 branches, biases, response normalisation."""

from torch import nn
from torchvision.models import GoogLeNet
from torchvision.models.googlenet import Inception

from . import SMALL_INPUT, require_room


def googlenet_original(num_classes: int = 1000, input_size: int = 224, in_channels: int = 3) -> nn.Module:
    """torchvision's layout without BatchNorm and with 5x5 convolutions where it has 3x3; no auxiliary classifiers.

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", arXiv:1409.4842, table 1 and figure 3.
    CIFAR form, at most 64 px: the stem is 3x3 with stride 1 and the pooling behind it is left out.
    """
    require_room(input_size, 16, "three poolings")
    blocks = [conv, inception, nn.Identity]
    net = GoogLeNet(num_classes, aux_logits=False, init_weights=False, blocks=blocks, dropout=0.4)
    if input_size <= SMALL_INPUT:
        stem, pool = conv(in_channels, 64, 3, padding=1), nn.Identity()
    else:
        stem, pool = conv(in_channels, 64, 7, stride=2, padding=3), net.maxpool1
    net.set_submodule("conv1", stem)
    net.set_submodule("maxpool1", nn.Sequential(pool, nn.LocalResponseNorm(5)))
    net.set_submodule("maxpool2", nn.Sequential(nn.LocalResponseNorm(5), net.maxpool2))
    net.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)  # 2x2 in torchvision
    return net


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> nn.Module:
    """A convolution with bias, and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding), nn.ReLU())


def inception(in_channels: int, *widths: int) -> nn.Module:
    """Four branches side by side; `widths` are those of 1x1, 3x3 (reduced, full), 5x5 (reduced, full) and pooled."""
    block = Inception(in_channels, *widths, conv_block=conv)
    block.set_submodule("branch3.1", conv(widths[3], widths[4], 5, padding=2))
    return block

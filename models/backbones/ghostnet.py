"""GhostNet: timm's network at any width.

Source: Han, Wang, Tian, Guo, Xu, Xu 2020, "GhostNet", arXiv:1911.11907, table 1.
"""

from timm.models.ghostnet import GhostNet
from torch import nn

from . import SMALL_INPUT, require_room

SE = 0.25  # channels inside a squeeze-and-excitation, relative to its bottleneck's
# For each bottleneck: kernel, expanded channels, outputs, squeeze-and-excitation, stride; one list for each stage.
BOTTLENECKS = [
    [[3, 16, 16, 0, 1]],
    [[3, 48, 24, 0, 2]],
    [[3, 72, 24, 0, 1]],
    [[5, 72, 40, SE, 2]],
    [[5, 120, 40, SE, 1]],
    [[3, 240, 80, 0, 2]],
    [[3, 200, 80, 0, 1], [3, 184, 80, 0, 1], [3, 184, 80, 0, 1], [3, 480, 112, SE, 1], [3, 672, 112, SE, 1]],
    [[5, 672, 160, SE, 2]],
    [[5, 960, 160, 0, 1], [5, 960, 160, SE, 1], [5, 960, 160, 0, 1], [5, 960, 160, SE, 1]],
]


def ghostnet(num_classes: int = 1000, input_size: int = 224, in_channels: int = 3, *, width: float = 1.0) -> nn.Module:
    """timm's network, its widths but the head's 1280 times `width`, rounded to multiples of 4 but not below 90 %.

    For inputs of at most 64 px the stem and the first bottleneck with a stride keep the size.
    """
    if width <= 0:
        raise ValueError(f"width={width}: must be positive; nearest of the paper's: 0.5")
    require_room(input_size, 9, "three halvings")
    net = GhostNet(BOTTLENECKS, num_classes, width, in_channels)
    if input_size <= SMALL_INPUT:
        for name in ("conv_stem", "blocks.1.0.conv_dw", "blocks.1.0.shortcut.0"):
            conv = net.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            conv.stride = (1, 1)
    return net

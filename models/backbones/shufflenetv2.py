"""ShuffleNet v2: torchvision's network at any scale.

Source: Ma, Zhang, Zheng, Sun 2018, "ShuffleNet V2", arXiv:1807.11164, table 5.
"""

from torch import nn
from torchvision.models import ShuffleNetV2

from . import SMALL_INPUT, require_room

WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}  # by scale
STEM, UNITS, HEAD = 24, [4, 8, 4], 1024


def shufflenetv2(
    num_classes: int = 1000, input_size: int = 224, in_channels: int = 3, *, scale: float = 1.0
) -> nn.Module:
    """The paper's widths at its four scales; at any other the widths of 1.0 times `scale`, rounded to even numbers.

    The stem has 24 channels at any scale, the last convolution 1024, beyond scale 1.5 times `scale`. For
    inputs of at most 64 px the stem has stride 1 and no pooling.
    """
    if scale < 0.1:
        raise ValueError(f"scale={scale}: two branches need some channels each; nearest: 0.1")
    require_room(input_size, 9, "three halvings")
    widths = WIDTHS.get(scale) or [2 * round(width * scale / 2) for width in WIDTHS[1.0]]
    head = int(HEAD * scale) if scale > 1.5 else HEAD
    net = ShuffleNetV2(UNITS, [STEM, *widths, head], num_classes)
    small = input_size <= SMALL_INPUT
    net.conv1[0] = nn.Conv2d(in_channels, STEM, 3, 1 if small else 2, padding=1, bias=False)
    if small:
        net.set_submodule("maxpool", nn.Identity())
    return net

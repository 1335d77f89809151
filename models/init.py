"""The one initialisation pass over a rebuilt network."""

import math

from torch import nn


def initialise(net: nn.Module) -> None:
    """Convolutions N(0, 2 / fan-out) with zero bias, batch norms to one and zero, in place.

    Fan-out counts the outputs that one input feeds: k^2 out_channels / groups (He et al. 2015,
    arXiv:1502.01852; the choice of both the ResNet and the LCCL authors). Everything else keeps the
    initialisation of its own library.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels / module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

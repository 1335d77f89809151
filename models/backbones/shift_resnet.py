"""ShiftResNet: the CIFAR residual networks of 6n + 2 layers, one shift module in place of each block's convolutions.

Source: Wu et al. 2018, "Shift", arXiv:1711.08141, section 4.1, in the form of the authors' code: within a block
1x1, BN, ReLU, shift, 1x1 with the stride, BN, ReLU, then the shortcut is added, and nothing follows.
"""

from torch import Tensor, nn

from ..layers.shift import Shift
from . import require_room
from .cifar_resnet import blocks_a_stage, projection_shortcut


def shift_resnet(
    num_classes: int = 10, input_size: int = 32, in_channels: int = 3, *, depth: int, expansion: int
) -> nn.Module:
    """Three stages of (`depth` - 2) / 6 blocks at 16, 32 and 64 channels, inside each `expansion` times as many.

    The second and third stage halve the size; for images of at least 8 x 8.
    """
    blocks_each = blocks_a_stage(depth)
    if expansion < 1:
        raise ValueError(f"expansion={expansion}: must be a positive whole number; nearest: 1")
    require_room(input_size, 8, "two halvings")
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for before, width in ((16, 16), (16, 32), (32, 64)):
        blocks = [ShiftBlock(before, width, width // before, expansion)]
        blocks += [ShiftBlock(width, width, 1, expansion) for _ in range(blocks_each - 1)]
        layers.append(nn.Sequential(*blocks))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


class ShiftBlock(nn.Module):
    """shortcut(x) + ReLU(BN(shift module(x))): (N, C, H, W) -> (N, out_channels, H', W').

    The shortcut is a 1x1 convolution and BN where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        shift = Shift(in_channels, out_channels, 3, stride, padding=1, bias=False, expansion=expansion)
        self.branch = nn.Sequential(shift, nn.BatchNorm2d(out_channels), nn.ReLU())
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else projection_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)

"""All-CNN-C on the plane (z2) and on the groups p4 and p4m.

Source: Springenberg, Dosovitskiy, Brox, Riedmiller 2015, "Striving for Simplicity", arXiv:1412.6806, in the form
of Cohen, Welling 2016, arXiv:1602.07576, section 8.2, and their code: BatchNorm and ReLU after every convolution, the
last included, biases kept, padding 1 for every 3x3.
"""

from typing import Literal

from torch import Tensor, nn

from ..layers.group_equivariant import parts
from . import require_room

WIDTHS = {"z2": 96, "p4": 48, "p4m": 32}  # the paper's, which give about equal numbers of parameters


def all_cnn(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    group: Literal["z2", "p4", "p4m"] = "z2",
    width: int | None = None,
) -> nn.Module:
    """`width` channels (p4, p4m: fibres), twice that after the first halving; the paper's number by default.

    On p4 and p4m turning the image does not change the logits in evaluation mode, if input_size = 4 j + 1. At other
    sizes, the paper's own 32 px among them, the strided sampling breaks the symmetry.
    """
    require_room(input_size, 5, "two halvings")
    lift, conv, norm = parts(group)
    narrow = width or WIDTHS[group]
    wide = 2 * narrow

    def unit(conv, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        return nn.Sequential(conv(inputs, outputs, kernel, stride, padding=kernel // 2), norm(outputs), nn.ReLU())

    body = nn.Sequential(
        nn.Dropout(0.2),
        unit(lift, in_channels, narrow),
        unit(conv, narrow, narrow),
        unit(conv, narrow, narrow, stride=2),
        nn.Dropout(0.5),
        unit(conv, narrow, wide),
        unit(conv, wide, wide),
        unit(conv, wide, wide, stride=2),
        nn.Dropout(0.5),
        unit(conv, wide, wide),
        unit(conv, wide, wide, kernel=1),
        unit(conv, wide, num_classes, kernel=1),
    )
    return AllCNN(body)


class AllCNN(nn.Module):
    """The mean over the planes of each class that `body` returns: (N, C, H, W) -> (N, num_classes)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).flatten(2).mean(2)  # over space, and over the group where there is one

"""Ghost-VGG-16: VGG-16 for CIFAR whose convolutions are ghost modules.

Source: Han, Wang, Tian, Guo, Xu, Xu 2020, "GhostNet", arXiv:1911.11907, section 4.1, with the authors' own module,
which normalises and rectifies the convolution before the cheap one.
"""

from timm.models.ghostnet import GhostModule
from torch import nn

from . import require_room

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width, convolutions


def ghost_vgg16(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    ratio: int = 2,
    cheap_kernel_size: int = 3,
    ghost_stem: bool = False,
) -> nn.Module:
    """Five stages of 3x3 ghost modules, each pooled, and one linear layer; with `ghost_stem` the stem is one too.

    In a module a convolution makes one output in `ratio`; depthwise convolutions of `cheap_kernel_size` make the others
    from those. The authors trained with a dense first convolution; the MACs that they print are those of a
    first convolution that is a ghost module too (157, 158, 160 and 163 M for kernels of 1, 3, 5 and 7).
    Differs: the parameters that they print hold 0.263 M more, as many as one linear layer 512 -> 512.
    """
    if not 2 <= ratio <= STAGES[0][0]:
        nearest = min(max(ratio, 2), STAGES[0][0])
        raise ValueError(f"ratio={ratio}: must be from 2 to the {STAGES[0][0]} channels of a stage; nearest: {nearest}")
    if cheap_kernel_size % 2 == 0:
        raise ValueError(f"cheap_kernel_size={cheap_kernel_size}: must be odd; nearest: {cheap_kernel_size + 1}")
    require_room(input_size, 32, "four poolings")
    layers: list[nn.Module] = []
    before = in_channels
    for width, convolutions in STAGES:
        for _ in range(convolutions):
            if layers or ghost_stem:
                layers.append(GhostModule(before, width, 3, ratio, cheap_kernel_size))
            else:
                stem = nn.Conv2d(before, width, 3, padding=1, bias=False)
                layers.append(nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU()))
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))

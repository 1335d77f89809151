"""AlexNet as it was first published, in two towers."""

from torch import nn

from ..geometry import nearest_divisor
from . import require_room

SMALLEST_PAPER_FORM = 99  # px, of which the stem and the three poolings leave 2 x 2


def alexnet(num_classes: int = 1000, input_size: int = 227, in_channels: int = 3, *, groups: int = 2) -> nn.Module:
    """Five convolutions, of which the second, fourth and fifth see one of `groups` towers each; three linear layers.

    Source: Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
    Networks", section 3. With one group it is the single-tower network.
    Where the last map is not 6 x 6, its size at 227 px, it is averaged to that, as torchvision's network does.
    CIFAR form, below 99 px: the stem is 3x3 with stride 1 and the pooling behind it is left out.
    """
    if groups < 1 or 32 % groups:
        raise ValueError(
            f"groups={groups} must divide 96, 256 and 384 channels; nearest: {nearest_divisor(32, groups)}"
        )
    require_room(input_size, 11, "two poolings")
    if input_size < SMALLEST_PAPER_FORM:
        stem = [nn.Conv2d(in_channels, 96, 3, padding=1), nn.ReLU(), _response_norm()]
    else:
        stem = [nn.Conv2d(in_channels, 96, 11, 4), nn.ReLU(), _response_norm(), nn.MaxPool2d(3, 2)]
    body = [nn.Conv2d(96, 256, 5, padding=2, groups=groups), nn.ReLU(), _response_norm(), nn.MaxPool2d(3, 2)]
    body += [nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()]
    body += [nn.Conv2d(384, 384, 3, padding=1, groups=groups), nn.ReLU()]
    body += [nn.Conv2d(384, 256, 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2)]
    head = [nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Dropout(0.5)]
    head += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, num_classes)]
    return nn.Sequential(*stem, *body, *head)


def _response_norm() -> nn.Module:
    """The paper's n = 5, k = 2, alpha = 1e-4, beta = 0.75; torch divides alpha by n."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)

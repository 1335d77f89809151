"""VGG-16 for CIFAR: its counts with and without what papers leave out, and its maps."""

import pytest
import torch
from torch import nn

from models.backbones.vgg import vgg16_cifar
from tests.models.backbones.counted import counted


@pytest.mark.parametrize(
    ("batch_norm", "bias", "extra"), [(False, False, 0), (False, True, 4224), (True, False, 8448), (True, True, 12672)]
)
def test_counts(batch_norm: bool, bias: bool, extra: int) -> None:
    """The thirteen convolutions have 4,224 outputs: one bias and two BatchNorm parameters each."""
    assert counted(vgg16_cifar, 32, batch_norm=batch_norm, bias=bias) == (14_715_594 + extra, 313_201_664)


@pytest.mark.parametrize(
    ("size", "maps"), [(2, [2] * 5), (7, [7, 7, 7, 7, 3]), (16, [16, 16, 8, 4, 2]), (32, [32, 16, 8, 4, 2])]
)
def test_the_last_stage_sees_2_x_2(size: int, maps: list[int]) -> None:
    net, seen = vgg16_cifar(7, size, 1), []
    for module in net:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: seen.append(output.shape[-1]))
    assert net.eval()(torch.zeros(1, 1, size, size)).shape == (1, 7)
    assert [seen[last] for last in (1, 3, 6, 9, 12)] == maps

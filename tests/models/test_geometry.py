"""ConvGeometry against torch's own convolution."""

import itertools

import pytest
import torch
from torch import nn

from models.geometry import ConvGeometry

CASES = list(itertools.product([1, 2, 3, (3, 5)], [1, 2, (1, 2)], [0, 1, (2, 1)], [1, 2]))


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), CASES)
def test_output_size_is_torchs(kernel, stride, padding, dilation) -> None:
    conv = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups=2)
    expected = tuple(conv(torch.zeros(1, 2, 13, 16)).shape[2:])
    assert ConvGeometry.of(conv).output_size(13, 16) == expected


def test_arguments_make_the_same_convolution() -> None:
    conv = nn.Conv2d(4, 8, (3, 5), (1, 2), (2, 1), 2, groups=2, bias=False)
    assert repr(nn.Conv2d(*ConvGeometry.of(conv).arguments())) == repr(conv)


def test_refuses_what_a_replacement_could_not_keep() -> None:
    with pytest.raises(ValueError, match="padding_mode='circular'"):
        ConvGeometry.of(nn.Conv2d(1, 1, 3, padding_mode="circular"))
    with pytest.raises(ValueError, match="padding='same'"):
        ConvGeometry.of(nn.Conv2d(1, 1, 3, padding="same"))

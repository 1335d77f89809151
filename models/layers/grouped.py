"""Grouped convolution, with or without a channel shuffle."""

import math

import torch
from torch import Tensor, nn

from ..approximation import fit, set_filters
from ..geometry import nearest_divisor


class Grouped(nn.Module):
    """A convolution in `cardinality` groups that do not see one another, then a shuffle that mixes them.

    Source: Krizhevsky, Sutskever, Hinton 2012 (two groups); Xie et al. 2017, "Aggregated Residual Transformations",
    arXiv:1611.05431 (cardinality); Zhang et al. 2018, "ShuffleNet", arXiv:1707.01083 (shuffle).
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' k^2 m n / (groups cardinality) for m inputs and n outputs; the shuffle computes nothing.
    With `cardinality` 1 it is nn.Conv2d. A convolution that has groups already is split further.
    """

    budget_knob = ("cardinality", (1, 2, 4, 8, 16, 32, 64))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        cardinality: int = 4,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        splittable = math.gcd(in_channels, out_channels) // groups
        if cardinality < 1 or splittable % cardinality:
            raise ValueError(
                f"cardinality={cardinality} must divide in_channels={in_channels} and out_channels={out_channels} "
                f"(in each of groups={groups}); nearest: {nearest_divisor(splittable, cardinality)}"
            )
        groups *= cardinality
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.shuffle = nn.ChannelShuffle(groups) if shuffle else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x))

    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The convolution's own filters, without the connections between groups."""
        before = self._before_shuffle()
        set_filters(self.conv, weight[before], None if bias is None else bias[before])

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        fit(self.conv, x, y[:, self._before_shuffle()])

    def _before_shuffle(self) -> Tensor:
        """For each output of the convolution, the position that the shuffle brings it to."""
        channels = torch.arange(self.conv.out_channels).view(1, -1, 1, 1)
        return self.shuffle(channels).flatten().argsort()

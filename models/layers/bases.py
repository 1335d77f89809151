"""Convolution unravelled into per-channel bases and a projection."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..approximation import channel_bases, fit, set_filters


class Bases(nn.Module):
    """`num_bases` depthwise k x k kernels for every input channel, then a 1x1 projection; linear.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337,
    Algorithm 2. Nothing stands between the two steps. With k^2 bases it can express every k x k convolution; with
    one it is a linear depthwise separable convolution.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' b m (k^2 + n / groups) for b bases, m inputs and n outputs, against H' W' k^2 m n / groups:
    a ratio of (k^2 b + n b) / (k^2 n) at groups = 1.
    `projection` makes the 1x1 convolution; any layer that takes nn.Conv2d's arguments will do.
    Differs: the algorithm has stride 1 and groups = 1; `groups` is kept by grouping the projection.
    """

    budget_knob = ("num_bases", (1, 2, 3, 4, 5, 6, 7, 8, 9))

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
        num_bases: int = 2,
        projection: Callable[..., nn.Module] = nn.Conv2d,
    ) -> None:
        super().__init__()
        if num_bases < 1:
            raise ValueError(f"num_bases={num_bases}: every channel needs at least one kernel; nearest: 1")
        maps = num_bases * in_channels  # the bases of one channel are neighbours
        self.depthwise = nn.Conv2d(
            in_channels, maps, kernel_size, stride, padding, dilation, groups=in_channels, bias=False
        )
        self.project = projection(maps, out_channels, 1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(x))

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The nearest of all bases, by an SVD of each channel; equal where they are min(k^2, out_channels / groups)."""
        channels, maps = self.depthwise.in_channels, self.depthwise.out_channels
        kernels, coefficients = channel_bases(weight, channels // weight.shape[1], maps // channels)
        used = kernels.flatten(0, 1).flatten(1).any(1)
        self.depthwise.weight[used] = kernels.flatten(0, 1)[:, None][used]  # one without a part stays random, to learn
        set_filters(self.project, coefficients.flatten(1)[:, :, None, None], bias)

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        fit(self.project, self.depthwise(x), y)

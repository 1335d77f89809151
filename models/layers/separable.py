"""Depthwise separable convolution."""

import torch
from torch import Tensor, nn

from ..approximation import channel_bases, fit, pass_through, set_filters


class Separable(nn.Module):
    """Depthwise k x k, (BatchNorm), ReLU, then 1x1.

    Source: Howard et al. 2017, "MobileNets", arXiv:1704.04861, section 3.1.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' m (k^2 + n / groups) for m inputs and n outputs: 1/n + 1/k^2 of the convolution's at groups = 1.
    Differs: the BatchNorm and ReLU behind the 1x1 are the network's own. Without `bias` a BatchNorm stands
    between the two, as in MobileNet; with it both convolutions have a bias and there is none.
    `groups` is kept by grouping the 1x1 convolution.
    """

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
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, in_channels, bias)
        self.norm = nn.Identity() if bias else nn.BatchNorm2d(in_channels)
        self.project = nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.relu(self.norm(self.depthwise(x))))

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The nearest kernel of each channel (an SVD), with the sign that keeps most of it from the ReLU.

        That is where its taps add up to more than 0, as long as the inputs are not negative themselves.
        """
        kernels, coefficients = channel_bases(weight, self.depthwise.groups // weight.shape[1], 1)
        signs = torch.where(kernels.sum((1, 2, 3)) < 0, -1.0, 1.0).to(weight)
        set_filters(self.depthwise, kernels * signs[:, None, None, None], None)
        own = signs.view(-1, weight.shape[1]).repeat_interleave(len(weight) * weight.shape[1] // len(signs), 0)
        set_filters(self.project, (coefficients[:, :, 0] * own)[:, :, None, None], bias)

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        fit(self.project, torch.relu(pass_through(self.norm, self.depthwise(x))), y)

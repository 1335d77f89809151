"""Bottleneck: a convolution between two projections that narrow and widen."""

import torch
from torch import Tensor, nn

from ..approximation import both_signs, fit, pass_through, set_filters


class Bottleneck(nn.Sequential):
    """1x1 down to r channels, (BatchNorm), ReLU, k x k, (BatchNorm), ReLU, 1x1 up; r = out_channels / reduction.

    Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.1.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H W m r + H' W' (k^2 r^2 + r n) for m inputs and n outputs: the first 1x1 runs at input size.
    r is rounded to a whole number, at least 1.
    Differs: the last BatchNorm, the shortcut and the last ReLU are the network's own.
    """

    budget_knob = ("reduction", (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0))

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
        reduction: float = 4.0,
    ) -> None:
        if groups != 1:
            raise ValueError(f"groups={groups}: a bottleneck replaces a convolution of all channels; nearest: 1")
        if reduction < 1:
            raise ValueError(f"reduction={reduction}: a bottleneck does not widen; nearest: 1")
        width = max(1, round(out_channels / reduction))
        super().__init__()
        self.down = nn.Conv2d(in_channels, width, 1, bias=bias)
        self.norm1 = nn.Identity() if bias else nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv = nn.Conv2d(width, width, kernel_size, stride, padding, dilation, bias=bias)
        self.norm2 = nn.Identity() if bias else nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.up = nn.Conv2d(width, out_channels, 1, bias=bias)

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The main directions of inputs and of outputs (SVDs; Kim et al. 2016, arXiv:1511.06530), half of r each.

        The other half are their negatives, so that the ReLUs lose nothing.
        """
        width, dense = self.down.out_channels, weight.double()
        inputs = torch.linalg.svd(dense.transpose(0, 1).flatten(1), full_matrices=False).U.T
        outputs = torch.linalg.svd(dense.flatten(1), full_matrices=False).U.T
        down, up = both_signs(inputs, width), both_signs(outputs, width)
        # Of a pair of signs, which follows a ReLU, each gives its own half.
        core = torch.einsum("on,nmkl,im->oikl", up, dense, down)
        set_filters(self.down, down[:, :, None, None].to(weight), None)
        set_filters(self.conv, core.to(weight), None)
        set_filters(self.up, up.T[:, :, None, None].to(weight), bias)

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        z = self.act1(pass_through(self.norm1, self.down(x)))
        fit(self.conv, z, nn.functional.conv2d(y, self.up.weight.transpose(0, 1)))
        z = self.act2(pass_through(self.norm2, self.conv(z)))
        fit(self.up, z, y)

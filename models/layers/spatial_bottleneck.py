"""Spatial bottleneck: the projection runs at a lower resolution."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..approximation import channel_bases, fit, set_filters
from ..geometry import ConvGeometry


class SpatialBottleneck(nn.Module):
    """Strided depthwise convolution, 1x1 projection at low resolution, depthwise deconvolution; linear.

    Source: Wang, Liu, Foroosh 2017, "Design of Efficient Convolutional Layers", arXiv:1608.04337v2 (abstract).
    One low-resolution position stands for r x r positions of the output; the depthwise window spans the
    centres of their own windows, (r - 1) stride + 1 pixels.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W', odd sizes included.
    Cost in MACs: with L = ceil(H' / r) ceil(W' / r) positions, L (r^2 m + m n / groups + r^2 n) at stride 1;
    for m = n and r dividing the size H' W' n (2 + n / r^2).
    `reduction` is r; left out it is the kernel size, as the published pipeline has it, so that a 1x1
    convolution becomes a 1x1 convolution (between two scalings of its channels). `projection` makes the 1x1
    convolution from nn.Conv2d's arguments.
    Differs: sizes that r does not divide are padded with zeros and the result is cut.
    """

    budget_knob = ("reduction", (1, 2, 3, 4, 5, 6, 7))

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
        reduction: int | None = None,
        projection: Callable[..., nn.Module] = nn.Conv2d,
    ) -> None:
        super().__init__()
        g = ConvGeometry.like(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.geometry = g
        if reduction is not None and reduction < 1:
            raise ValueError(f"reduction={reduction}: a low resolution is not above the full one; nearest: 1")
        self.rates = rates = g.kernel_size if reduction is None else (reduction, reduction)
        (high, wide), (down, across) = rates, g.stride
        window = ((high - 1) * down + 1, (wide - 1) * across + 1)
        step = (high * down, wide * across)
        self.frame = Frame(g, rates)
        self.down = nn.Conv2d(in_channels, in_channels, window, step, groups=in_channels, bias=False)
        self.project = projection(in_channels, out_channels, 1, groups=groups, bias=bias)
        self.up = nn.ConvTranspose2d(out_channels, out_channels, rates, rates, groups=out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.geometry.output_size(x.shape[2], x.shape[3])
        return _precise(self.up, self.project(self._narrowed(x)))[:, :, :height, :width]

    def _narrowed(self, x: Tensor) -> Tensor:
        return _precise(self.down, self.frame(x))

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The nearest basis to the mean of the convolution over r x r outputs, as far as the window sees it."""
        g, rates, window = self.geometry, self.rates, self.down.kernel_size
        reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel_size, strict=True)]
        mean = weight.new_zeros(*weight.shape[:2], *(w + r for w, r in zip(window, reach, strict=True)))
        for row in range(rates[0]):
            for column in range(rates[1]):
                top, left = row * g.stride[0], column * g.stride[1]
                rows = slice(top, top + reach[0] + 1, g.dilation[0])
                mean[:, :, rows, left : left + reach[1] + 1 : g.dilation[1]] += weight / (rates[0] * rates[1])
        top, left = (-(-r // 2) for r in reach)
        seen = mean[:, :, top : top + window[0], left : left + window[1]]
        kernels, coefficients = channel_bases(seen, g.groups, 1)
        set_filters(self.down, kernels, None)
        set_filters(self.project, coefficients[:, :, 0, None, None], bias)
        self.up.weight.fill_(1)

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        fit(self.project, self._narrowed(x), F.avg_pool2d(y, self.rates, ceil_mode=True))


class Frame(nn.Module):
    """Pad x, or cut it, so that a window of `down` stands on every r x r outputs; a module, which deploy keeps whole.

    Its shapes decide what it does, so that torch.fx cannot record it, but can record the convolutions around it.
    """

    def __init__(self, geometry: ConvGeometry, rates: tuple[int, int]) -> None:
        super().__init__()
        self.geometry, self.rates = geometry, rates

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.geometry.output_size(*x.shape[2:])
        left, _, top, _ = self.geometry.centre_margins()
        bottom = self._needed(height, 0) - top - x.shape[2]
        right = self._needed(width, 1) - left - x.shape[3]
        margins = (left, right, top, bottom)  # negative where they cut
        return F.pad(x, margins) if any(margins) else x

    def _needed(self, size: int, dim: int) -> int:
        """Input pixels, padding included, from which `down` makes enough positions for `size` outputs."""
        rate, stride = self.rates[dim], self.geometry.stride[dim]
        return (math.ceil(size / rate) - 1) * rate * stride + (rate - 1) * stride + 1


def _precise(conv: nn.Module, x: Tensor) -> Tensor:
    """`conv` of x, under autocast on CPUs in float32.

    There oneDNN takes 10 to 80 times as long in bfloat16 for a strided depthwise deconvolution, and for the gradient of
    a convolution, which is one.
    """
    if torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return conv(x.float())
    return conv(x)

"""Bottleneck: a convolution between two projections that narrow and widen."""

from torch import nn


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

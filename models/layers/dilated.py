"""Dilated convolution."""

from torch import Tensor, nn

from ..geometry import pair


class Dilated(nn.Module):
    """The same convolution with its taps `rate` times further apart: a wider view for the same cost.

    Source: Yu, Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions", arXiv:1511.07122;
    Yu, Koltun, Funkhouser 2017, "Dilated Residual Networks", arXiv:1705.09914.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W': the padding grows too.
    Cost in MACs: the convolution's own, H' W' k^2 m n / groups for m inputs and n outputs.
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
        *,
        rate: int = 2,
    ) -> None:
        super().__init__()
        kernel, pad, spread = pair(kernel_size), pair(padding), pair(dilation)
        if rate < 1:
            raise ValueError(f"rate={rate}: taps cannot be closer than neighbours; nearest: 1")
        if kernel == (1, 1):
            raise ValueError(f"kernel_size={kernel}: one tap has nothing to spread; nearest: 3")
        growth = [(rate - 1) * d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
        if any(extra % 2 for extra in growth):
            raise ValueError(f"rate={rate} on kernel_size={kernel} cannot keep the output size; nearest: {rate + 1}")
        padded = (pad[0] + growth[0] // 2, pad[1] + growth[1] // 2)
        wide = (rate * spread[0], rate * spread[1])
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padded, wide, groups, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

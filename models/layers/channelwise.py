"""Channel-wise convolutions: short one-dimensional kernels that slide along the channels."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import nearest_divisor


class ChannelWise(nn.Sequential):
    """A depthwise k x k convolution, then one kernel of `length` along the channels, the same at every position.

    Source: Gao, Wang, Ji 2018, "ChannelNets", arXiv:1809.01330, section 3.4 (depth-wise separable channel-wise
    convolution). out_channels may be in_channels or a divisor of it, which is then the stride along the channels.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' (k^2 m + length n).
    Differs: with fewer channels than `length` the kernel is as long as there are channels. As in the paper nothing
    stands between the two parts: both are linear, and the network normalises what comes out.
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
        length: int = 64,
    ) -> None:
        if groups != 1:
            raise ValueError(f"groups={groups}: the kernel slides along all channels; nearest: 1")
        if in_channels % out_channels:
            nearest = nearest_divisor(in_channels, out_channels)
            raise ValueError(f"out_channels={out_channels} must divide in_channels={in_channels}; nearest: {nearest}")
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, in_channels, bias),
            ChannelConv(in_channels, 1, length, in_channels // out_channels, bias),
        )


class GroupChannelWise(nn.Sequential):
    """Depthwise k x k, a 1x1 convolution in `cardinality` groups, then as many kernels along the channels.

    Source: Gao, Wang, Ji 2018, "ChannelNets", arXiv:1809.01330, section 3.3 (group channel-wise convolution), and the
    authors' own code for the zeros at the ends. Each kernel, of `length` and with stride `cardinality` along
    the channels, makes one group of the outputs, so that each group receives from all groups of the 1x1 convolution.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' (k^2 m + m n / cardinality + length n).
    Differs: with fewer channels than `length` the kernels are as long as there are channels. As in the paper nothing
    stands between the parts: all are linear, and the network normalises what comes out.
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
        cardinality: int = 2,
        length: int = 8,
    ) -> None:
        if groups != 1:
            raise ValueError(f"groups={groups}: the kernels slide along all channels; nearest: 1")
        common = math.gcd(in_channels, out_channels)
        if cardinality < 1 or common % cardinality:
            raise ValueError(
                f"cardinality={cardinality} must divide in_channels={in_channels} and out_channels={out_channels}; "
                f"nearest: {nearest_divisor(common, cardinality)}"
            )
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, in_channels, bias),
            nn.Conv2d(in_channels, out_channels, 1, groups=cardinality, bias=bias),
            ChannelConv(out_channels, cardinality, length, cardinality, bias),
        )


class ChannelConv(nn.Module):
    """Kernels along the channels with zeros at the ends: x (N, C, H, W) -> (N, kernels * C / stride, H, W).

    The C / stride maps of the first kernel come first. `stride` divides C.
    """

    def __init__(self, channels: int, kernels: int, length: int, stride: int, bias: bool) -> None:
        super().__init__()
        if length < stride:
            raise ValueError(f"length={length}: with stride {stride} channels would be left out; nearest: {stride}")
        length = min(length, channels)
        zeros = length - stride
        self.margins = (zeros // 2, zeros - zeros // 2)
        self.conv = nn.Conv1d(1, kernels, length, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        positions = x.permute(0, 2, 3, 1).flatten(0, 2).unsqueeze(1)  # a view where channels come last in memory
        y = self.conv(F.pad(positions, self.margins))
        return y.flatten(1).unflatten(0, (n, height, width)).permute(0, 3, 1, 2)

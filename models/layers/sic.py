"""Single intra-channel convolution, SIC."""

import torch
from torch import Tensor, nn

from models.geometry import pair


class SIC(nn.Sequential):
    """`depth` times: ReLU(x + BN(1x1(depthwise k x k(x)))), in place of one k x k convolution.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337,
    Algorithm 3. Nothing stands between the depthwise convolution and its linear projection.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' (k^2 m + m n / groups) for the first unit (m inputs, n outputs) and
    H' W' (k^2 n + n^2 / groups) for each further one, against H' W' k^2 m n / groups.
    Differs: the algorithm box draws no normalisation; here a BatchNorm follows each projection, whose
    shift takes the place of `bias`. The algorithm needs m = n and stride 1; where the first unit changes
    the shape, its residual link is left out. `groups` is kept by grouping the projection.
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
        depth: int = 1,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth={depth}: SIC stacks at least one unit; nearest: 1")
        kernel, spread = pair(kernel_size), pair(dilation)
        same = (spread[0] * (kernel[0] - 1) // 2, spread[1] * (kernel[1] - 1) // 2)
        if depth > 1 and any(d * (k - 1) % 2 for k, d in zip(kernel, spread, strict=True)):
            raise ValueError(
                f"kernel_size={kernel} with depth={depth}: stacked units need an odd kernel to keep the size"
            )
        first = SICUnit(in_channels, out_channels, kernel, pair(stride), pair(padding), spread, groups)
        further = [SICUnit(out_channels, out_channels, kernel, (1, 1), same, spread, groups) for _ in range(depth - 1)]
        super().__init__(*[first, *further])


class SICUnit(nn.Module):
    """One pass of Algorithm 3: x (N, m, H, W) -> (N, n, H', W'); the residual link where shapes allow."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels, bias=False
        )
        self.project = nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        keeps_size = all(2 * p == d * (k - 1) for p, d, k in zip(padding, dilation, kernel_size, strict=True))
        self.residual = in_channels == out_channels and stride == (1, 1) and keeps_size

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.project(self.depthwise(x)))
        return torch.relu(x + y if self.residual else y)

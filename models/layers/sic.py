"""Single intra-channel convolution, SIC."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from ..geometry import ConvGeometry

Norm = Literal["projection", "both", "none"]


class SIC(nn.Sequential):
    """`depth` times: ReLU(x + BN(1x1(depthwise k x k(x)))), in place of one k x k convolution.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337,
    Algorithm 3. Nothing stands between the depthwise convolution and its linear projection.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' (k^2 m + m n / groups) for the first unit (m inputs, n outputs) and
    H' W' (k^2 n + n^2 / groups) for each further one, against H' W' k^2 m n / groups.

    `depthwise_kernel_size` takes the place of k: a larger one costs little. `projection` makes the 1x1
    convolution from nn.Conv2d's arguments. `norm` says where BatchNorm stands: behind the projection, behind
    both convolutions or nowhere. `residual` adds the input of each unit that keeps its shape.
    A 1x1 convolution has nothing intra-channel: it becomes the projection alone.
    Differs: the algorithm box draws no normalisation; the shift of a BatchNorm takes the place of `bias`.
    The algorithm needs m = n and stride 1; here a unit that changes the shape has no residual link. `groups` is kept by
    grouping the projection.
    """

    budget_knob = ("depth", (1, 2, 3, 4, 5, 6))

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
        depthwise_kernel_size: int | None = None,
        projection: Callable[..., nn.Module] = nn.Conv2d,
        norm: Norm = "projection",
        residual: bool = True,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth={depth}: SIC stacks at least one unit; nearest: 1")
        if norm not in ("projection", "both", "none"):
            raise ValueError(f"norm={norm!r}: must be 'projection', 'both' or 'none'")
        g = ConvGeometry.like(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        if g.kernel_size == (1, 1):
            super().__init__(projection(*g.arguments()))
            return
        if depthwise_kernel_size is not None:
            g = g.with_kernel(depthwise_kernel_size)
        units = [SICUnit(g, projection, norm, residual)]
        if depth > 1:
            same = g.same_size()
            units += [SICUnit(same, projection, norm, residual) for _ in range(depth - 1)]
        super().__init__(*units)


class SICUnit(nn.Module):
    """One pass of Algorithm 3: x (N, m, H, W) -> (N, n, H', W')."""

    def __init__(
        self, geometry: ConvGeometry, projection: Callable[..., nn.Module], norm: Norm, residual: bool
    ) -> None:
        super().__init__()
        g = geometry
        m, n = g.in_channels, g.out_channels
        self.depthwise = nn.Conv2d(m, m, g.kernel_size, g.stride, g.padding, g.dilation, groups=m, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(m) if norm == "both" else nn.Identity()
        self.project = projection(m, n, 1, groups=g.groups, bias=g.bias and norm == "none")
        self.norm = nn.Identity() if norm == "none" else nn.BatchNorm2d(n)
        self.residual = residual and m == n and g.keeps_size

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.project(self.depthwise_norm(self.depthwise(x))))
        # Not relu: its backward pass reads its output, which an in-place ReLU of the network may overwrite.
        return (x + y if self.residual else y).clamp(min=0)

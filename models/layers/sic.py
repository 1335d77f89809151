"""Single intra-channel convolution, SIC."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..approximation import channel_bases, fit, pass_through, set_filters
from ..geometry import ConvGeometry

Norm = Literal["projection", "both", "none"]
LIFT = 3.0  # standard deviations: what a ReLU then cuts off is little


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

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The first unit comes nearest to the convolution, the others change nothing; but for what the ReLUs cut."""
        first, *others = self
        if not isinstance(first, SICUnit):
            set_filters(first, weight, bias)
            return
        first.init_from_conv(weight, bias)
        for unit in others:
            nothing = torch.zeros(len(weight), weight.shape[1], 1, 1).to(weight)
            unit.init_from_conv(_with_identity(nothing, 1.0), None)  # pyright: ignore[reportCallIssue]

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        fit(self[0], x, y)


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
        # The ReLU by another name: relu's backward pass reads its output, which an in-place ReLU of the network may
        # overwrite, and clamp's takes eight times as long as either on CPUs.
        return F.hardtanh(x + y if self.residual else y, 0.0, math.inf)

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The nearest single basis to what the convolution adds to the residual link."""
        wanted = _with_identity(weight, -1.0) if self.residual else weight
        margins = [(size - own) // 2 for size, own in zip(self.depthwise.kernel_size, weight.shape[2:], strict=True)]
        wanted = F.pad(wanted, (margins[1], margins[1], margins[0], margins[0]))  # negative margins cut
        if isinstance(self.norm, nn.BatchNorm2d):
            self.norm.bias.zero_() if bias is None else self.norm.bias.copy_(bias)
            if not wanted.any():
                self.norm.weight.zero_()  # not the filters: their gradient behind a BatchNorm would know no bounds
                return
        kernels, coefficients = channel_bases(wanted, self.depthwise.groups // weight.shape[1], 1)
        set_filters(self.depthwise, kernels, None)
        set_filters(self.project, coefficients[:, :, 0, None, None], bias)

    @torch.no_grad()
    def fit_to(self, x: Tensor, y: Tensor) -> None:
        """Without the ReLU, above which the unit's norm then lifts its output; what follows takes off the mean."""
        z = pass_through(self.depthwise_norm, self.depthwise(x))
        fit(self.project, z, y - x if self.residual else y)
        z = pass_through(self.norm, self.project(z))
        if isinstance(self.norm, nn.BatchNorm2d):
            std, mean = torch.std_mean(x + z if self.residual else z, (0, 2, 3))
            self.norm.bias.add_((LIFT * std - mean).clamp(min=0))


def _with_identity(weight: Tensor, scale: float) -> Tensor:
    """Filters (n, m, k, l) plus `scale` times those that return each of their n inputs."""
    outputs = torch.arange(len(weight), device=weight.device)
    rows, columns = (size // 2 for size in weight.shape[2:])
    weight = weight.clone()
    weight[outputs, outputs % weight.shape[1], rows, columns] += scale
    return weight

"""Ghost module: some outputs by a convolution, the others from those by a cheap depthwise one."""

import math

import torch
from torch import Tensor, nn

from ..approximation import fit, set_filters


class Ghost(nn.Module):
    """cat(y, depthwise d x d(y)) cut to out_channels, with y the convolution to ceil(out_channels / `ratio`).

    Source: Han, Wang, Tian, Guo, Xu, Xu 2020, "GhostNet", arXiv:1911.11907, section 3.1; d is `cheap_kernel_size`.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs, with p = ceil(n / ratio): H' W' (k^2 m p / groups + d^2 p (ratio - 1)).
    Differs: the authors' module ends each part with BatchNorm and ReLU. Here there is no
    ReLU, as in their own module where it replaces a linear convolution, and no BatchNorm, because each part is also a
    part of the output, which the network normalises itself. `groups` is that of the convolution.
    """

    budget_knob = ("ratio", (2, 3, 4, 5, 6, 8))

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
        ratio: int = 2,
        cheap_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if out_channels < 2:
            raise ValueError(f"out_channels={out_channels}: one channel has no ghost; nearest: 2")
        if not 2 <= ratio <= out_channels:
            nearest = min(max(ratio, 2), out_channels)
            raise ValueError(f"ratio={ratio}: must be from 2 to out_channels={out_channels}; nearest: {nearest}")
        if cheap_kernel_size % 2 == 0:
            raise ValueError(f"cheap_kernel_size={cheap_kernel_size}: must be odd; nearest: {cheap_kernel_size + 1}")
        primary = math.ceil(out_channels / ratio)
        if primary % groups:
            raise ValueError(
                f"groups={groups} must divide the {primary} = ceil(out_channels / ratio) channels of the convolution; "
                f"nearest: {math.gcd(primary, groups)}"
            )
        self.out_channels = out_channels
        self.primary = nn.Conv2d(in_channels, primary, kernel_size, stride, padding, dilation, groups, bias)
        self.cheap = nn.Conv2d(
            primary,
            primary * (ratio - 1),
            cheap_kernel_size,
            padding=cheap_kernel_size // 2,
            groups=primary,
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat((y, self.cheap(y)), dim=1)[:, : self.out_channels]

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The first filters as they are; each other one is the nearest multiple of the one that it is a ghost of.

        With `groups` the filters here see other inputs than those of the convolution, and start at random.
        """
        if self.primary.groups > 1:
            return
        primary, cheap = self.primary.out_channels, self.cheap
        own, rest = weight[:primary], weight[primary:]
        source = own.repeat_interleave(cheap.out_channels // primary, 0)[: len(rest)]
        scale = (rest * source).sum((1, 2, 3)) / source.square().sum((1, 2, 3)).clamp(min=1e-12)
        set_filters(self.primary, own, None if bias is None else bias[:primary])
        rows, columns = (size // 2 for size in cheap.weight.shape[2:])
        cheap.weight.zero_()
        cheap.weight[: len(rest), 0, rows, columns] = scale
        if cheap.bias is not None and bias is not None:
            of = bias[:primary].repeat_interleave(cheap.out_channels // primary)[: len(rest)]
            cheap.bias[: len(rest)] = bias[primary:] - scale * of

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        primary = self.primary.out_channels
        fit(self.primary, x, y[:, :primary])
        made = self.primary(x)
        left_out = self.cheap(made)[:, self.out_channels - primary :]
        fit(self.cheap, made, torch.cat((y[:, primary:], left_out), dim=1))

"""Topological subdivision: channels on a grid, each connected to its neighbourhood only."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.geometry import ConvGeometry

LONGEST = 32  # of a leading grid dimension chosen here: finer grids run no faster than a dense convolution


class Subdivided(nn.Module):
    """A convolution whose output channels each see a window of the input channels, both laid out on a grid.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337,
    Algorithm 4. Channels form a grid d_1 x ... x d_s; output (j_1, ..., j_s) sees the inputs
    ((j_t + o_t) mod d_t), 0 <= o_t < c_t: a window that begins at the channel itself and wraps around.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' k^2 n c_1 ... c_s for n outputs, against H' W' k^2 m n of the convolution with m inputs.

    `grid` and `window` are the d_t and c_t. Left out, they are the grid of `num_dims` dimensions and the window,
    whole in the last dimension and at least two wide in the others, that come nearest to `kept`, the fraction of
    all connections; of equals the smallest grid, which runs fastest.
    Differs: the paper has m = n. Here the leading dimensions divide both m and n and the last one takes the rest,
    m_s inputs and n_s outputs; output j_s begins at input floor(j_s m_s / n_s).
    """

    budget_knob = ("kept", (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0))  # windows two wide: each input is read twice

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
        num_dims: int = 2,
        kept: float = 0.25,
        grid: Sequence[int] | None = None,
        window: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"groups={groups}: the grid takes the place of groups; nearest: 1")
        self.geometry = ConvGeometry.like(in_channels, out_channels, kernel_size, stride, padding, dilation)
        if (grid is None) != (window is None):
            raise ValueError(f"grid={grid} and window={window} go together; give both or neither")
        if grid is None or window is None:
            grid, window = _choose(in_channels, out_channels, num_dims, kept)
        self.grid, self.window = tuple(grid), tuple(window)
        _check(self.grid, self.window, in_channels, out_channels)
        # Trailing dimensions that are seen whole make blocks of channels that all see the same inputs.
        whole = [c == d for c, d in zip(self.window, self.grid, strict=True)]
        self.num_walked = max((t + 1 for t, is_whole in enumerate(whole) if not is_whole), default=0)
        self.block = math.prod(self.grid[self.num_walked :])
        last_outputs = out_channels // math.prod(self.grid[:-1])
        walks_last = self.num_walked == len(self.grid)
        self.step = max(1, self.grid[-1] // last_outputs) if walks_last else 1
        self.num_blocks = math.prod(self.grid[: self.num_walked]) // self.step
        num_inputs = math.prod(self.window)
        self.weight = nn.Parameter(torch.empty(out_channels, num_inputs, *self.geometry.kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        fan_out = math.prod(self.weight.shape) / in_channels
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        g = self.geometry
        if g.kernel_size != (1, 1):
            x = self._windows(x.permute(0, 2, 3, 1)).flatten(3).permute(0, 3, 1, 2)  # N, blocks * inputs, H, W
            return F.conv2d(x, self.weight, self.bias, g.stride, g.padding, g.dilation, self.num_blocks)
        if g.padding != (0, 0):
            x = F.pad(x, g.centre_margins())
        x = x[:, :, :: g.stride[0], :: g.stride[1]].permute(0, 2, 3, 1)
        size = x.shape[:3]
        # One batched product over overlapping windows: much faster than a grouped convolution of few channels.
        x = self._windows(x).flatten(0, 2).transpose(0, 1)  # blocks, NHW, inputs
        x = x @ self.weight.view(self.num_blocks, -1, self.weight.shape[1]).transpose(1, 2)
        x = x.transpose(0, 1).reshape(*size, -1)  # N, H, W, out_channels
        return (x if self.bias is None else x + self.bias).permute(0, 3, 1, 2)

    def _windows(self, x: Tensor) -> Tensor:
        """What each block of outputs sees: x (N, H, W, in_channels) -> (N, H, W, blocks, inputs)."""
        if not self.num_walked:
            return x.unsqueeze(3)
        window = self.window[: self.num_walked]
        x = x.unflatten(3, (*self.grid[: self.num_walked], self.block))
        for dim, reach in enumerate(window, start=3):
            x = torch.cat([x, x.narrow(dim, 0, reach - 1)], dim)  # wraps around
        runs = x.flatten(-2).unfold(-1, window[-1] * self.block, self.step * self.block)
        for dim, reach in enumerate(window[:-1], start=3):
            num = runs.shape[dim] - reach + 1
            runs = torch.cat([runs.narrow(dim, offset, num) for offset in range(reach)], -1)
        return runs.flatten(3, -2)

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Every element of the output takes one multiplication for each element of its filter."""
        return math.prod(output_shape) * math.prod(self.weight.shape[1:])


def _choose(in_channels: int, out_channels: int, num_dims: int, kept: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grid and window nearest to `kept`; of equals the one that repeats its inputs least."""
    if num_dims < 2:
        raise ValueError(f"num_dims={num_dims}: a grid has at least two dimensions; nearest: 2")
    if not 0 < kept <= 1:
        raise ValueError(f"kept={kept}: a fraction of the connections, above 0 and at most 1; nearest: 0.25")
    common = math.gcd(in_channels, out_channels)
    sizes = [size for size in range(1, min(common, LONGEST) + 1) if common % size == 0]
    choices = [
        (leading, reach)
        for leading in itertools.product(sizes, repeat=num_dims - 1)
        if common % math.prod(leading) == 0
        for reach in itertools.product(*(range(min(2, size), size + 1) for size in leading))
    ]
    leading, reach = min(
        choices,
        key=lambda c: (abs(math.prod(c[1]) / math.prod(c[0]) - kept), math.prod(c[1]), max(c[0])),
    )
    if reach == leading and kept < 1:
        near = [width for width in range(3, 2 * in_channels + 8) if math.gcd(width, out_channels) > 2]
        raise ValueError(
            f"in_channels={in_channels} shares with out_channels={out_channels} the divisor {common}, too small for a "
            f"grid that keeps {kept} of the connections; nearest: "
            + (f"{min(near, key=lambda width: abs(width - in_channels))}" if near else "kept=1")
        )
    last = in_channels // math.prod(leading)
    return (*leading, last), (*reach, last)


def _check(grid: tuple[int, ...], window: tuple[int, ...], in_channels: int, out_channels: int) -> None:
    leading = math.prod(grid[:-1])
    if math.prod(grid) != in_channels or out_channels % leading:
        raise ValueError(
            f"grid={grid}: its product must be in_channels={in_channels} and that of all but the last dimension divide "
            f"out_channels={out_channels}; nearest: {_choose(in_channels, out_channels, len(grid), 1.0)[0]}"
        )
    if len(window) != len(grid) or not all(1 <= c <= d for c, d in zip(window, grid, strict=False)):
        raise ValueError(f"window={window}: one number from 1 to its size for each dimension of grid={grid}")
    inputs, outputs = grid[-1], out_channels // leading
    if window[-1] == inputs:
        return
    if max(inputs, outputs) % min(inputs, outputs):
        raise ValueError(
            f"window={window}: the last dimension has {inputs} inputs for {outputs} outputs, and a partial window "
            f"needs one to divide the other; nearest: {(*window[:-1], inputs)}"
        )
    if window[-1] * outputs < inputs:
        raise ValueError(f"window={window}: leaves inputs unseen; nearest: {(*window[:-1], inputs // outputs)}")

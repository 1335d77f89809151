"""Topological subdivision: channels on a grid, each connected to its neighbourhood only."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..approximation import fit_filters
from ..geometry import ConvGeometry
from ..kernels.subdivided_conv import dense, index, subdivided_conv2d

# Limits of the grids that are chosen here. They were set for a forward pass that copied each input kept * blocks times,
# and stay, because other grids would be other networks. The leading dimensions are all but the last.
LONGEST = 32  # channels in a leading dimension
MOST_BLOCKS = 64  # product of the leading dimensions
MOST_DIMS = 4

Sizes = tuple[int, ...]


class Subdivided(nn.Module):
    """A convolution whose output channels each see a window of the input channels, both laid out on a grid.

    Source: Wang, Liu, Foroosh 2017, "Factorized Convolutional Neural Networks", arXiv:1608.04337,
    Algorithm 4. Channels form a grid d_1 x ... x d_s; output (j_1, ..., j_s) sees the inputs
    ((j_t + o_t) mod d_t), 0 <= o_t < c_t: a window that begins at the channel itself and wraps around.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' k^2 n c_1 ... c_s for n outputs, against H' W' k^2 m n of the convolution with m inputs.

    `grid` and `window` are the d_t and c_t. Left out, they are the grid of `num_dims` dimensions, 2 to 4, and the
    window that come nearest to `kept`, the fraction of all connections; of several the smallest, which run fastest.
    The window is whole in the last dimension; in the others it is at least two wide and, unless `kept` is 1, smaller
    than the grid. The leading dimensions have at most 32 channels each, and their product is at most 64. In three
    and four dimensions none is a single channel, so that four need at least 54 channels, or 128 of a power of two.
    Differs: the paper has m = n. Here the leading dimensions divide both m and n and the last one takes the rest,
    m_s inputs and n_s outputs; output j_s begins at input floor(j_s m_s / n_s).
    """

    # Windows two wide reach these, which read each input twice.
    budget_knob = ("kept", (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0))
    seen: Tensor  # the input channels that each block of outputs sees: (blocks, inputs)

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
        self.register_buffer("seen", self._seen(in_channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        g = self.geometry
        if x.dim() != 4 or x.shape[1] != g.in_channels:
            raise ValueError(f"x of shape {tuple(x.shape)}: must be (N, {g.in_channels}, H, W)")
        window = (list(g.stride), list(g.padding), list(g.dilation))
        is_native = x.is_cpu and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        is_exported = torch.compiler.is_exporting() or torch.jit.is_tracing()  # to what may not know the operator
        if (x.is_meta or is_native) and not is_exported:
            y = subdivided_conv2d(x, self.weight, self.seen, *window)
            return y if self.bias is None else y + self.bias[:, None, None]
        # To copy what each block sees takes longer than to multiply with zeros, on CUDA most of all.
        return F.conv2d(x, self.dense_weight(), self.bias, *window)

    def _seen(self, in_channels: int) -> Tensor:
        return self._windows(torch.arange(in_channels).view(1, 1, 1, -1))[0, 0, 0]

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The convolution's own filters, without the connections that the grid has not."""
        self.weight.copy_(weight.gather(1, index(self.weight, self.seen)))
        if self.bias is not None:
            self.bias.zero_() if bias is None else self.bias.copy_(bias)

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        windows = self._windows(x.permute(0, 2, 3, 1)).flatten(3).permute(0, 3, 1, 2)  # N, blocks * inputs, H, W
        fit_filters(self.weight, self.bias, replace(self.geometry, groups=self.num_blocks), windows, y)

    def dense_weight(self) -> Tensor:
        """The filters of the convolution that computes the same: (out_channels, in_channels, k, l), mostly zeros."""
        return self.dense(self.weight)

    def dense(self, weight: Tensor) -> Tensor:
        """`weight`, of the shape of the layer's own, with zeros where there is no connection."""
        return dense(weight, self.seen, self.geometry.in_channels)

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


def _choose(in_channels: int, out_channels: int, num_dims: int, kept: float) -> tuple[Sizes, Sizes]:
    """The grid and window nearest to `kept`; of several the one that repeats its inputs least."""
    if not 2 <= num_dims <= MOST_DIMS:
        near = 2 if num_dims < 2 else MOST_DIMS
        raise ValueError(f"num_dims={num_dims}: a grid has from two to {MOST_DIMS} dimensions; nearest: {near}")
    if not 0 < kept <= 1:
        raise ValueError(f"kept={kept}: a fraction of the connections, above 0 and at most 1; nearest: 0.25")
    choices = list(_choices(in_channels, out_channels, num_dims, kept))
    if not choices:
        raise ValueError(
            f"in_channels={in_channels} shares with out_channels={out_channels} the divisor "
            f"{math.gcd(in_channels, out_channels)}, too small for a grid of {num_dims} dimensions that keeps {kept} "
            f"of the connections; nearest: {_nearest(in_channels, out_channels, num_dims, kept)}"
        )
    leading, reach = min(
        choices,
        key=lambda c: (abs(math.prod(c[1]) / math.prod(c[0]) - kept), math.prod(c[1]), max(c[0])),
    )
    last = in_channels // math.prod(leading)
    return (*leading, last), (*reach, last)


def _choices(in_channels: int, out_channels: int, num_dims: int, kept: float) -> Iterator[tuple[Sizes, Sizes]]:
    """Every grid and window of these channels, without their last dimension."""
    common = math.gcd(in_channels, out_channels)
    least = 1 if num_dims == 2 else 2  # a line of channels and the whole convolution count as two dimensions
    sizes = [size for size in range(least, min(common, LONGEST) + 1) if common % size == 0]
    for leading in itertools.product(sizes, repeat=num_dims - 1):
        blocks = math.prod(leading)
        if blocks > MOST_BLOCKS or common % blocks or min(in_channels, out_channels) < least * blocks:
            continue
        if kept == 1:
            yield leading, leading
        else:
            yield from ((leading, reach) for reach in itertools.product(*(range(2, size) for size in leading)))


def _nearest(in_channels: int, out_channels: int, num_dims: int, kept: float) -> str:
    """In words, the nearest number of inputs (and outputs, where they are equal) with a grid, or fewer dimensions."""
    square = in_channels == out_channels
    for width in sorted(range(1, 2 * (in_channels + out_channels) + 64), key=lambda width: abs(width - in_channels)):
        if any(_choices(width, width if square else out_channels, num_dims, kept)):
            return f"{width} of both" if square else f"{width}"
    fewer = [dims for dims in range(2, num_dims) if any(_choices(in_channels, out_channels, dims, kept))]
    return f"num_dims={max(fewer)}" if fewer else "num_dims=2, kept=1"


def _check(grid: Sizes, window: Sizes, in_channels: int, out_channels: int) -> None:
    leading = math.prod(grid[:-1])
    if math.prod(grid) != in_channels or out_channels % leading:
        raise ValueError(
            f"grid={grid}: its product must be in_channels={in_channels} and that of all but the last dimension divide "
            f"out_channels={out_channels}; nearest: {(*(1 for _ in grid[1:]), in_channels)}"
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

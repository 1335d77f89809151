"""Low-cost collaborative layer, LCCL: a convolution gated by a cheap one."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import ConvGeometry

GateKernel = Literal["1x1", "kxk"]
GateChannels = Literal["shared", "each"]
GateStart = Literal["fitted", "bounded", "random"]
Unit = Literal["norm_product", "relu_product", "product"]

GAIN = 2.0  # slope of a gate: it goes from 0 to 1 over half a standard deviation of its convolution's output
MOST_INPUTS = 2**26  # a fit uses at most so many values of its input, which bounds its memory
RIDGE = 1e-2  # regularises the fit, relative to the mean variance of a gate's inputs: some channels hardly vary


class LCCL(nn.Module):
    """BN(conv(x)) * gate(x): where the gate is zero the convolution need not be computed.

    Source: Dong, Huang, Yang, Yan 2017, "More is Less", arXiv:1703.08651, and the authors' own code. Three gates:
    k x k x C x 1 (`gate_kernel="kxk"`, the authors' bottleneck networks), 1 x 1 x C x 1 ("1x1", their basic
    blocks), both one map for all outputs, and 1 x 1 x C x T (`gate_channels="each"`), one map for each output.
    The gate is clamp(2 BN(cheap conv(x)) + `gate_offset`, 0, 1), its BatchNorm without scale and shift: the larger the
    offset, the fewer positions are closed. With None it is the authors' ReLU(BN(cheap conv(x))); `gate_affine=False`
    leaves out the scale and shift of its BatchNorm, and `gate_norm=False` all of it; a bias takes its place.
    `unit="product"` is the authors' code, conv(x) * gate(x); "relu_product" the paper's ReLU(BN(conv(x))) * gate(x);
    "norm_product" has the BatchNorm alone. Where `bias` is set, this BatchNorm is left out.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs: H' W' k^2 m n / groups for the convolution, H' W' k_gate^2 m for a shared gate,
    H' W' m n / groups for one gate for each output. Where a fraction r of the gate map is open, skipping leaves this
    share of the convolution's own cost, at groups = 1: r + 1 / n (k x k), r + 1 / (k^2 n) (1 x 1), r + 1 / k^2 (each).
    A gate that costs as much as its convolution is refused.
    Gates start (`gate_start`, at the first batch) "fitted" to where the convolution responds; "bounded", their weights
    made non-positive, so that over inputs from a ReLU a gate cannot exceed mean / standard deviation; or "random".
    Differs: by default a gate has a ceiling, opens somewhere in each batch as long as the offset is positive (its
    BatchNorm keeps the mean at 0), and starts fitted; the BatchNorm before the product keeps the 0 of a closed position
    near its channel's mean. `model/layer=lccl_published` has none of these, but starts bounded and has no scale and
    shift: a product of two functions of one input has heavier tails than they, which from unit to unit leaves all of a
    batch's variance to a few positions. results/README.md has the accuracy with and without each of these. The authors
    place the unit before the next BatchNorm and ReLU (pre-activation); in a post-activation network its product goes
    straight into the BatchNorm that followed the convolution. Gates learn at `gate_lr_scale` of the base rate, and are
    decayed, BatchNorm too, with `gate_decay`, as the authors'. With `groups` a gate for each output sees the inputs of
    its own group, and a shared gate sees all inputs.
    """

    is_gated = True

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
        gate_kernel: GateKernel = "kxk",
        gate_channels: GateChannels = "shared",
        gate_norm: bool = True,
        gate_affine: bool = True,
        gate_offset: float | None = 1.0,
        gate_start: GateStart = "fitted",
        gate_lr_scale: float = 1.0,
        gate_decay: bool = False,
        unit: Unit = "norm_product",
    ) -> None:
        super().__init__()
        _require_choice("gate_kernel", gate_kernel, GateKernel)
        _require_choice("gate_channels", gate_channels, GateChannels)
        _require_choice("gate_start", gate_start, GateStart)
        _require_choice("unit", unit, Unit)
        _require_a_scale(gate_norm, gate_offset, gate_lr_scale)
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        geometry = ConvGeometry.of(conv)
        _require_cheap(geometry, gate_kernel, gate_channels)
        norm = [] if bias or unit == "product" else [nn.BatchNorm2d(out_channels)]
        act = [nn.ReLU()] if unit == "relu_product" else []
        self.conv = nn.Sequential(conv, *norm, *act) if norm or act else conv
        affine = gate_affine and gate_offset is None
        self.gate = Gate(geometry, gate_kernel, gate_channels, norm=gate_norm, affine=affine, offset=gate_offset)
        self.gate.lr_scale, self.gate.decays = gate_lr_scale, gate_decay
        self.gate_start = gate_start

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gate(x)

    @torch.no_grad()
    def init_from_batch(self, x: Tensor) -> None:
        """Start the gate as `gate_start` says; x is a training batch (N, in_channels, H, W).

        "fitted" opens it where the convolution responds: to the mean square over outputs of conv(x), standardised. The
        positions that start closed are then those that change the output least.
        """
        if self.gate_start == "fitted":
            y = _solvable(self.conv(x))
            y = y - y.mean((0, 2, 3), keepdim=True)
            strength = (y / y.std((0, 2, 3), keepdim=True).clamp(min=1e-5)).square()  # N, out_channels, H', W'
            shared = self.gate.conv.out_channels == 1
            self.gate.fit(x, strength.mean(1, keepdim=True) if shared else strength)
        elif self.gate_start == "bounded":
            self.gate.conv.weight.copy_(-self.gate.conv.weight.abs())


class Gate(nn.Module):
    """clamp(2 BN(conv) + offset, 0, 1): x (N, m, H, W) -> gate map (N, 1 or n, H', W') of `geometry`, n outputs.

    Without an offset it is ReLU(BN(conv)), whose BatchNorm has a learned scale and shift where it is `affine`.
    """

    lr_scale: float  # this and the next: models/training/param_groups.py
    decays: bool

    def __init__(
        self,
        geometry: ConvGeometry,
        kernel: GateKernel,
        channels: GateChannels,
        *,
        norm: bool,
        affine: bool,
        offset: float | None,
    ) -> None:
        super().__init__()
        self.offset = offset
        g = geometry
        self.margins = g.centre_margins() if kernel == "1x1" else (0, 0, 0, 0)
        size, padding, dilation = (1, 0, 1) if kernel == "1x1" else (g.kernel_size, g.padding, g.dilation)
        maps, groups = (1, 1) if channels == "shared" else (g.out_channels, g.groups)
        self.conv = nn.Conv2d(g.in_channels, maps, size, g.stride, padding, dilation, groups, bias=not norm)
        self.norm = nn.BatchNorm2d(maps, affine=affine) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if any(self.margins):
            x = F.pad(x, self.margins)  # negative margins cut
        z = self.norm(self.conv(x))
        return torch.relu(z) if self.offset is None else (GAIN * z + self.offset).clamp(0, 1)

    def fit(self, x: Tensor, target: Tensor) -> None:
        """Turn each kernel, at its length, to the least squares fit of `target` (N, 1 or n, H', W') over x.

        Where the windows of all images have more than MOST_INPUTS values, only the first images are used.
        """
        g = ConvGeometry.of(self.conv)
        an_image = g.in_channels * math.prod(g.kernel_size) * math.prod(target.shape[2:])
        x, target = (_solvable(images[: max(1, MOST_INPUTS // an_image)]) for images in (x, target))
        if any(self.margins):
            x = F.pad(x, self.margins)
        windows = F.unfold(x, g.kernel_size, g.dilation, g.padding, g.stride)  # N, m k^2, H' W'
        seen = windows.transpose(0, 1).flatten(1).chunk(g.groups)  # each m k^2 / groups, N H' W'
        wanted = target.transpose(0, 1).flatten(1).chunk(g.groups)  # each n / groups, N H' W'
        fitted = torch.cat([_ridge(*pair) for pair in zip(seen, wanted, strict=True)])
        length = _solvable(self.conv.weight).flatten(1).norm(dim=1, keepdim=True)
        self.conv.weight.copy_((F.normalize(fitted) * length).view_as(self.conv.weight))


def _solvable(tensor: Tensor) -> Tensor:
    """`tensor` in float32 at least: the solvers take no half precision, and sums in it would be too coarse."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Coefficients (b, a) of the centred least squares fit of y (b, positions) over x (a, positions)."""
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    gram = x @ x.T
    ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-5)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), x @ y.T).T


def _require_choice(argument: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{argument}={value!r}: must be {' or '.join(map(repr, get_args(choices)))}")


def _require_a_scale(norm: bool, offset: float | None, lr_scale: float) -> None:
    if lr_scale <= 0:
        raise ValueError(f"gate_lr_scale={lr_scale}: must be positive; nearest that trains well: 1.0")
    if offset is not None and not norm:
        raise ValueError(
            f"gate_norm=False, gate_offset={offset}: an offset needs the BatchNorm that gives it a scale; "
            "nearest: gate_offset=None"
        )


def _require_cheap(geometry: ConvGeometry, kernel: GateKernel, channels: GateChannels) -> None:
    """Raise ValueError where the gate costs as much as the convolution, which costs what the largest gate would."""
    conv = _macs_a_position(geometry, "kxk", "each")
    if _macs_a_position(geometry, kernel, channels) < conv:
        return
    cheaper: list[tuple[GateKernel, GateChannels]] = [("1x1", channels), ("1x1", "shared")]
    fits = [form for form in cheaper if _macs_a_position(geometry, *form) < conv]
    nearest = "gate_kernel={!r}, gate_channels={!r}".format(*fits[0]) if fits else "the convolution without a gate"
    raise ValueError(
        f"gate_kernel={kernel!r}, gate_channels={channels!r}: the gate must cost less than the convolution that it "
        f"can skip; nearest: {nearest}"
    )


def _macs_a_position(geometry: ConvGeometry, kernel: GateKernel, channels: GateChannels) -> int:
    taps = 1 if kernel == "1x1" else math.prod(geometry.kernel_size)
    fan = geometry.out_channels // geometry.groups if channels == "each" else 1
    return taps * geometry.in_channels * fan

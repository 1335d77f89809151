"""Fire: a squeeze to few channels, then 1x1 and k x k expansions side by side."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..approximation import both_signs, fit, pass_through, set_filters
from ..geometry import ConvGeometry


class Fire(nn.Module):
    """cat(1x1(z), k x k(z)) with z = ReLU(1x1(x)), z of `squeeze_ratio` * out_channels channels.

    Source: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, "SqueezeNet", arXiv:1602.07360, section 3.2.
    The two expansions give half of the outputs each, the 1x1 first; of an odd number of outputs the k x k
    gives one more. Both take the stride, the 1x1 at the centre of each window.
    Shapes: x (N, in_channels, H, W) -> (N, out_channels, H', W'), nn.Conv2d's H' and W'.
    Cost in MACs, with s squeezed channels: H W m s (the squeeze runs at input size) + H' W' s (e1 + k^2 e3),
    e1 + e3 = n.
    Differs: the paper has biases and no normalisation; without `bias` a BatchNorm follows the squeeze. The ReLU
    after the expansions is the network's own.
    """

    budget_knob = ("squeeze_ratio", (0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.75))

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
        squeeze_ratio: float = 0.125,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"groups={groups}: the squeeze mixes all channels; nearest: 1")
        if out_channels < 2:
            raise ValueError(f"out_channels={out_channels}: each expansion needs one; nearest: 2")
        if not 0 < squeeze_ratio <= 1:
            raise ValueError(
                f"squeeze_ratio={squeeze_ratio}: must be in (0, 1]; nearest: {0.125 if squeeze_ratio <= 0 else 1}"
            )
        squeezed, half = max(1, round(squeeze_ratio * out_channels)), out_channels // 2
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1, bias=bias)
        self.norm = nn.Identity() if bias else nn.BatchNorm2d(squeezed)
        self.expand = nn.Conv2d(squeezed, out_channels - half, kernel_size, stride, padding, dilation, bias=bias)
        self.expand_1x1 = nn.Conv2d(squeezed, half, 1, stride, bias=bias)
        self.margins = ConvGeometry.of(self.expand).centre_margins()

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.norm(self.squeeze(x)))
        return torch.cat((self.expand_1x1(self._centres(z)), self.expand(z)), dim=1)

    def _centres(self, z: Tensor) -> Tensor:
        return F.pad(z, self.margins) if any(self.margins) else z  # negative margins cut

    @torch.no_grad()
    def init_from_conv(self, weight: Tensor, bias: Tensor | None) -> None:
        """The main directions of the inputs (an SVD), half of the squeezed channels, and their negatives for the ReLU.

        The outputs of the 1x1 expansion take the centres of their kernels.
        """
        half = self.expand_1x1.out_channels
        rows, columns = (size // 2 for size in weight.shape[2:])
        centre = weight.double()[:half, :, rows : rows + 1, columns : columns + 1]
        full = weight.double()[half:]
        filters = torch.cat(
            [part.transpose(0, 1).flatten(1) for part in (centre, full)], 1
        )  # inputs, all that use them
        squeeze = both_signs(torch.linalg.svd(filters, full_matrices=False).U.T, self.squeeze.out_channels)
        set_filters(self.squeeze, squeeze[:, :, None, None].to(weight), None)
        for expand, part, own in ((self.expand_1x1, centre, slice(half)), (self.expand, full, slice(half, None))):
            projected = torch.einsum("nmkl,im->nikl", part, squeeze).to(weight)
            set_filters(expand, projected, None if bias is None else bias[own])

    def fit_to(self, x: Tensor, y: Tensor) -> None:
        z = torch.relu(pass_through(self.norm, self.squeeze(x)))
        half = self.expand_1x1.out_channels
        fit(self.expand_1x1, self._centres(z), y[:, :half])
        fit(self.expand, z, y[:, half:])

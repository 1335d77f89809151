"""Convolutional classification layer, CCL: a classifier that is one small convolution."""

from torch import Tensor, nn

from ..geometry import pair


class CCL(nn.Module):
    """Maps to class scores with one kernel of (m - n + 1) maps x `size`, shared by the n classes.

    Source: Gao, Wang, Ji 2018, "ChannelNets", arXiv:1809.01330, section 3.5. Takes the place of global pooling and
    the linear classifier, not of nn.Conv2d: class j sees maps j to j + m - n only, so the order of classes matters.
    Shapes: x (N, in_channels, *size) -> (N, num_classes), with m = in_channels >= n = num_classes.
    Cost in MACs: size (m - n + 1) n, with size the product; as many parameters as one class has MACs.
    """

    def __init__(self, in_channels: int, num_classes: int, size: int | tuple[int, int]) -> None:
        super().__init__()
        if num_classes > in_channels:
            raise ValueError(
                f"num_classes={num_classes}: must be at most in_channels={in_channels}; nearest: {in_channels}"
            )
        self.conv = nn.Conv3d(1, 1, (in_channels - num_classes + 1, *pair(size)), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.unsqueeze(1)).flatten(1)

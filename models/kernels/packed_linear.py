"""A linear layer of a deployed network whose weight lies as oneDNN multiplies a small batch fastest."""

import torch
from torch import Tensor, nn

from .packed import PackedWeights
from .unit import is_only_computed

LARGE = 1 << 17  # weights: a smaller layer takes less time than the choice
FEW = 4  # images: below it, PyTorch's own product is as fast


class PackedLinear(nn.Linear):
    """`linear` on CPUs in float32: x (N, C) -> (N, T). For other shapes, types and devices it is PyTorch's.

    PyTorch packs the weight again in each call. Where a few images meet many weights, as in VGG's classifier, that
    takes longer than to multiply: 94 beside 42 ms for 8 images and 25,088 x 4,096 weights on one thread of a Xeon.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not is_only_computed(input) or not self._pays(input):
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self._packed(len(input)), self.bias, "none", [], "")

    def _pays(self, x: Tensor) -> bool:
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return False
        plain = x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        fits = x.dim() == 2 and x.shape[1] == self.in_features and len(x) >= FEW  # else PyTorch says what is wrong
        return plain and fits and self.weight.numel() >= LARGE and torch.backends.mkldnn.is_available()

    def _packed(self, images: int) -> Tensor:
        return _packed.of(self.weight, (images,), lambda: torch.ops.mkldnn._reorder_linear_weight(self.weight, images))


_packed = PackedWeights()

"""The order of a network's weights in memory."""

import torch
from torch import Tensor, nn


def channels_last(net: nn.Module) -> nn.Module:
    """`net`, its four-dimensional parameters and buffers now with the channels last in memory.

    This is net.to(memory_format=torch.channels_last), but works where the network has an nn.Conv3d.
    """
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return net


def plain_copy(tensor: Tensor) -> Tensor:
    """`tensor` in the usual order, on its own: files take neither channels-last weights nor views."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)

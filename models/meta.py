"""Run a network on the meta device: shapes without arithmetic, memory or side effects."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call


def run_on_meta(net: nn.Module, input_shape: tuple[int, int, int, int]) -> Tensor:
    """The output of one forward pass of `net` in evaluation mode on an input of (N, C, H, W); hooks see meta tensors.

    The network itself is left as it is, whatever its device.
    """
    tensors = {name: tensor.to("meta") for name, tensor in [*net.named_parameters(), *net.named_buffers()]}
    # In inference mode a counter of operators would see composite ones.
    with _evaluating(net), torch.inference_mode(False), torch.no_grad():
        return functional_call(net, tensors, (torch.empty(input_shape, dtype=_dtype(net), device="meta"),))


def _dtype(net: nn.Module) -> torch.dtype:
    """The type of the network's own parameters, whatever the process's default is."""
    return next((parameter.dtype for parameter in net.parameters() if parameter.is_floating_point()), torch.float32)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode

"""Run a network on the meta device: shapes without arithmetic, memory or side effects."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode


def run_on_meta(
    net: nn.Module, input_shape: tuple[int, int, int, int], counter: TorchDispatchMode | None = None
) -> Tensor:
    """The output of one forward pass of `net` in evaluation mode on an input of (N, C, H, W); hooks see meta tensors.

    The network itself is left as it is, whatever its device. `counter` sees every operator.
    """
    tensors = {name: tensor.to("meta") for name, tensor in [*net.named_parameters(), *net.named_buffers()]}
    # In inference mode a counter of operators would see composite ones.
    with _evaluating(net), torch.inference_mode(False), torch.no_grad(), _QuickNorm(), counter or nullcontext():
        return functional_call(net, tensors, (torch.empty(input_shape, dtype=_dtype(net), device="meta"),))


class _QuickNorm(TorchDispatchMode):
    """Gives the shapes of BatchNorm at once: PyTorch derives them step by step, two thirds of a ResNet's time here."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.native_batch_norm.default:
            unused = args[0].new_empty(0)  # statistics of a batch, which evaluation does not take
            return torch.empty_like(args[0]), unused, unused
        return func(*args, **(kwargs or {}))


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

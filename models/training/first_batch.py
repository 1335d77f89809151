"""Initialise modules from the first batch of a training, where they depend on data."""

import torch
from torch import Tensor, nn

from ..watch import watched
from .processes import share_from_first


@torch.no_grad()
def initialise_from(images: Tensor, net: nn.Module) -> None:
    """Give every module with a method `init_from_batch` its input in one forward pass over `images`.

    `images` are a training batch (N, C, H, W). The modules follow in order of execution, so that each sees the result
    of those before it. All processes end with the weights of the first. Only parameters change: statistics, other
    buffers and the random numbers to come are as if there had been no such pass.
    """
    modules = {name: module for name, module in net.named_modules() if hasattr(module, "init_from_batch")}
    if not modules:
        return
    buffers = [buffer.clone() for buffer in net.buffers()]
    eager = torch.compiler.set_stance("force_eager")  # a compiled network overlooks hooks that come and go
    random = torch.random.fork_rng([images.device] if images.is_cuda else [])  # always includes the CPU's generator
    try:
        with eager, random, torch.autocast(images.device.type, enabled=False), watched(modules, before=_initialise):
            net(images)
    finally:
        for buffer, before in zip(net.buffers(), buffers, strict=True):
            buffer.copy_(before)
    share_from_first(net.parameters())


def _initialise(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    module.init_from_batch(*inputs)  # pyright: ignore[reportCallIssue]

"""Initialise what depends on data, from the first batch of a training."""

import torch
from torch import Tensor, nn

from ..watch import watched
from .processes import share_from_first


@torch.no_grad()
def initialise_from(images: Tensor, net: nn.Module) -> None:
    """What depends on data: every module with a method `init_from_batch` is given its input of one forward pass.

    `images` are a training batch (N, C, H, W). In order of execution, so that each module sees what those before it
    have become. All processes end with the weights of the first. Only parameters change: statistics, other buffers
    and the random numbers to come are as if the pass had not been.
    """
    modules = {name: module for name, module in net.named_modules() if hasattr(module, "init_from_batch")}
    if not modules:
        return
    buffers = [buffer.clone() for buffer in net.buffers()]
    eager = torch.compiler.set_stance("force_eager")  # a compiled network overlooks hooks that come and go
    random = torch.random.fork_rng([images.device] if images.is_cuda else [])  # of the CPU always
    try:
        with eager, random, torch.autocast(images.device.type, enabled=False), watched(modules, before=_initialise):
            net(images)
    finally:
        for buffer, before in zip(net.buffers(), buffers, strict=True):
            buffer.copy_(before)
    share_from_first(net.parameters())


def _initialise(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    module.init_from_batch(*inputs)  # pyright: ignore[reportCallIssue]

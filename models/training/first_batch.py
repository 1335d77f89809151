"""Initialise modules from the first batch of a training, where they depend on data."""

import torch
from torch import Tensor, nn

from ..watch import watched
from .processes import gather_images, number_of_processes, share_from_first
from .sharding import keep_changes

MOST_IMAGES = 256  # what one process has memory for, however many there are


@torch.no_grad()
def initialise_from(images: Tensor, net: nn.Module) -> None:
    """Give every module with a method `init_from_batch` its input in one forward pass over the images of a step.

    `images` are this process's share of them (N, C, H, W); the first MOST_IMAGES of all processes are taken, so that
    the number of processes changes nothing. The modules follow in order of execution, so that each sees the result
    of those before it. All processes end with the weights of the first. Only parameters change: statistics, other
    buffers and the random numbers to come are as if there had been no such pass.
    """
    modules = {name: module for name, module in net.named_modules() if hasattr(module, "init_from_batch")}
    if not modules:
        return
    images = gather_images(images[: -(-MOST_IMAGES // number_of_processes())].contiguous())[:MOST_IMAGES]
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
    keep_changes(net)


def _initialise(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    module.init_from_batch(*inputs)  # pyright: ignore[reportCallIssue]

"""The trained weights of timm and torchvision, by their own loaders, for a network that was fitted to other images."""

import logging
from collections.abc import Callable

import torch
from torch import nn

from ..errors import first_line

log = logging.getLogger(__name__)


def give_weights(net: nn.Module, source: str, load: Callable[[], nn.Module]) -> None:
    """Give `net` the weights of the network that `load()` returns, which `source` names.

    What is of another shape here stays random, and the log names it: the classifier of another number of classes, the
    stem of another size or of other channels. Nothing is loaded for a network on the meta device. Raises OSError where
    the weights cannot be had.
    """
    if next(net.parameters()).is_meta:
        return
    try:
        with torch.random.fork_rng([]):  # the weights at the start are random, and replaced
            theirs = load().state_dict()
    except Exception as error:  # of a dozen types: the libraries', those of what they load with, and of the network
        reason = first_line(error).rstrip(".")
        raise OSError(
            f"pretrained=true: the weights of {source} cannot be had ({reason}); connect this machine to the internet, "
            "or copy them into the library's cache (HF_HOME, TORCH_HOME)"
        ) from error
    ours = net.state_dict()
    anew = [name for name, weight in ours.items() if name not in theirs or theirs[name].shape != weight.shape]
    net.load_state_dict({name: theirs[name] for name in ours if name not in anew}, strict=False)
    other = f"; of another shape here, and random: {', '.join(anew)}" if anew else ""
    log.info(f"the weights of {source}{other}")

"""Where in an image the gated layers of a network compute."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import gated_layers
from .watch import watched


@contextmanager
def recorded(net: nn.Module, chosen: Sequence[int] | slice = slice(None)) -> Iterator[dict[str, Tensor]]:
    """While this lasts, the maps of all gated layers of `net`, by name, filled whenever it runs eagerly.

    A map (N, H', W') is the share of a position's outputs whose gates are open: 0 or 1 where one gate stands for all.
    The N images are the `chosen` ones of the batch that `net` ran on last; `net` belongs in evaluation mode. Where a
    layer runs several times, the map is that of its last run; one that does not run has none.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str, gate: nn.Module, inputs: tuple, gate_map: Tensor) -> None:
        maps[name] = (gate_map.detach()[chosen] > 0).float().mean(1)

    gates = {name: layer.get_submodule("gate") for name, layer in gated_layers(net).items()}
    with watched(gates, after=keep):
        yield maps


def overall(maps: Mapping[str, Tensor], conv_macs: Mapping[str, int], size: tuple[int, int]) -> Tensor:
    """The share of the gated convolutions' MACs that is computed for each pixel, (N, *size), over all of `maps`.

    `conv_macs`: those of each layer's convolution where nothing is skipped. The pixels that one position of a map
    stands for share its MACs equally.
    """
    total = sum(conv_macs[name] for name in maps)
    resized = {name: F.interpolate(each[:, None], size, mode="nearest-exact")[:, 0] for name, each in maps.items()}
    return torch.stack([conv_macs[name] / total * each for name, each in resized.items()]).sum(0)

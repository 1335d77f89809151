"""benchmark=units: single layers of the residual stages of ImageNet networks beside plain convolutions.

A row is a layer of C channels in one engine, with the columns of benchmark=networks. `sic` is
ReLU(x + 1x1(depthwise 3x3(x))), and `sic_subdivided` the same with a subdivided projection of a quarter of the
connections, both beside ReLU(conv 3x3(x)). `subdivided_1x1` is ReLU of such a projection alone, and stands beside
ReLU(conv 1x1(x)).
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from models.cost import count
from models.inference.engines import EngineName, Network
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided
from scripts.benchmarks.networks import Pair, measure

ELEMENTS = 64 * 56  # channels times pixels of a line, in each stage of a residual network at 224 px


def rows(
    *,
    channels: list[int],
    engines: list[EngineName],
    batch_sizes: list[int],
    threads: list[int],
    rounds: int,
    seconds: float,
    out: str | None,
) -> Iterator[dict[str, Any]]:
    """The rows of each layer, number of channels, batch and number of threads; the file `out` has them all.

    Raises ValueError where the images of so many channels would be smaller than a window.
    """
    if wide := [width for width in channels if not 0 < width <= ELEMENTS // 3]:
        raise ValueError(
            f"benchmark.channels={wide}: from 1 to {ELEMENTS // 3}, so that an image has at least 3 pixels a line"
        )
    chosen = tqdm([*product(LAYERS, channels)], "units", unit="layer", disable=None)
    pairs = (prepare(name, width, max(batch_sizes)) for name, width in chosen)
    yield from measure(
        pairs, engines=engines, batch_sizes=batch_sizes, threads=threads, rounds=rounds, seconds=seconds, out=out
    )


def prepare(name: str, channels: int, most_images: int) -> Pair:
    """The layer `name` and the convolution beside it, with `channels` inputs and outputs."""
    torch.manual_seed(0)
    nets = dict(zip(("network", "plain"), LAYERS[name](channels), strict=True))
    size = ELEMENTS // channels
    image = (channels, size, size)
    macs = {side: count(net, image).macs for side, net in nets.items()}
    images = torch.randn(most_images, *image)
    networks = {side: Network(net.eval(), image) for side, net in nets.items()}
    return Pair(f"{name}_{channels}", "conv", networks, dict.fromkeys(nets, images), macs["plain"] / macs["network"])


def _sic(channels: int, projection: Callable[..., nn.Module] = nn.Conv2d) -> tuple[nn.Module, nn.Module]:
    plain = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
    return SIC(channels, channels, 3, padding=1, norm="none", projection=projection), plain


def _subdivided_1x1(channels: int) -> tuple[nn.Module, nn.Module]:
    own, plain = (nn.Sequential(layer(channels, channels, 1), nn.ReLU()) for layer in (Subdivided, nn.Conv2d))
    return own, plain


LAYERS = {
    "sic": _sic,
    "sic_subdivided": partial(_sic, projection=Subdivided),
    "subdivided_1x1": _subdivided_1x1,
}

"""What gates do, as pictures: how much each closes, how that changes while training, and where."""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

LARGE = 150_000  # bytes: so that a report of many runs can hold the pictures of all
COLOURS = "coolwarm"  # of what is skipped and computed: blue and red differ for all readers


def closed_by_layer(zero_fraction: Mapping[str, float]) -> Figure:
    """One bar a gate, in the order of the network: the share of closed positions in percent."""
    figure = Figure(figsize=(max(5.0, 0.3 * len(zero_fraction) + 2), 4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(zero_fraction)), [100 * zero for zero in zero_fraction.values()], color="tab:blue")
    axes.set_xticks(range(len(zero_fraction)), list(zero_fraction))
    axes.set(ylabel="positions that are skipped, %", ylim=(0, 100), xlabel="layer, in the order of the network")
    axes.set_title("Closed gates of each layer, all test images")
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    return figure


def closed_by_epoch(history: Mapping[int, Mapping[str, float]]) -> Figure:
    """Layers from top to bottom, epochs from left to right, the share of closed positions as a colour.

    `history` is by the number of epochs trained; where no validation followed an epoch, the one before stays.
    """
    layers, epochs = list(next(iter(history.values()))), sorted(history)
    figure = Figure(figsize=(8, max(3.0, 0.2 * len(layers) + 1.5)), layout="constrained")
    axes = figure.add_subplot()
    shares = np.array([[100 * history[epoch][layer] for epoch in epochs] for layer in layers])
    edges = [*(epoch - 0.5 for epoch in epochs), epochs[-1] + 0.5]
    mesh = axes.pcolormesh(edges, np.arange(len(layers) + 1), shares, cmap="viridis", vmin=0, vmax=100)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(layers)) + 0.5, layers)
    axes.tick_params(axis="y", labelsize=7, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set(xlabel="epochs trained", ylabel="layer, the first one at the top")
    axes.set_title("Closed gates of each layer while training, validation images")
    figure.colorbar(mesh, label="positions that are skipped, %")
    return figure


def open_on_images(images: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """Test images, one a row, and over them, one a column, where the gates let layers compute.

    `images`: (N, H, W, 3), from 0 to 1. `maps`: by name, (N, H', W'), the share that is computed.
    """
    number, height, width = images.shape[:3]
    figure = Figure(figsize=(len(maps) + 1, number * height / width + 1.2), layout="constrained")  # an inch an image
    figure.suptitle("Where gates let a network compute", fontsize=10)
    grid = figure.subplots(number, len(maps) + 1, squeeze=False)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # an image's, whatever the size of a map
    for line, (row, image) in enumerate(zip(grid, images, strict=True)):
        row[0].imshow(image)
        for axes, each in zip(row[1:], maps.values(), strict=True):
            axes.imshow(image.mean(-1), cmap="gray", vmin=-0.4, vmax=1.2)  # neither black nor white hides a colour
            axes.imshow(each[line], cmap=COLOURS, vmin=0, vmax=1, alpha=0.5, extent=extent)
    for axes, name in zip(grid[0], ["image", *maps], strict=True):
        axes.set_title(name, fontsize=7)
    for axes in grid.flat:
        axes.set_axis_off()
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=grid, location="bottom", aspect=60)
    bar.set_label("share of the MACs computed at a position: 0 closed (skipped), 1 open", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def small_png(figure: Figure) -> bytes:
    """`figure` as a PNG; where photographs would make it large, with fewer colours."""
    large, small = BytesIO(), BytesIO()
    figure.savefig(large, dpi=90)
    if large.tell() <= LARGE:
        return large.getvalue()
    Image.open(large).convert("RGB").quantize(96).save(small, "PNG", optimize=True)
    return small.getvalue()

"""Show where gates let a network compute, on a few images of the test."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.gate_figures import open_on_images, small_png
from callbacks.trackers import show
from models.cost import Cost
from models.gate_maps import overall, recorded
from models.layers import gated_layers
from models.run_directory import GATE_MAPS, write_whole
from models.training.epochwise import Epochwise

IMAGES, LAYERS = 6, 6  # more would be too small to see


class GateMaps(Epochwise, pl.Callback):
    """Draws the gate maps of a few images of the first test batch, of different classes where it has them.

    For TensorBoard, and as gate_maps.png in `run_dir`; by the first process. Does nothing in a network without gates.
    It looks on while the test runs, so it belongs after GateSparsity, which has a compiled network run eagerly.
    """

    def __init__(self, run_dir: Path, cost: Cost) -> None:
        self.run_dir, self.cost = run_dir, cost
        self.watching = ExitStack()
        self.maps: dict[str, Tensor] = {}

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        net = pl_module.net
        assert isinstance(net, nn.Module)
        if batch_idx or not trainer.is_global_zero or not gated_layers(net):
            return
        images, labels = batch
        chosen = different(labels.tolist(), IMAGES)
        self.images = images[chosen]
        self.maps = self.watching.enter_context(recorded(net, chosen))

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.watching.close()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.maps or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        conv_macs = {name: self.cost.macs_of(f"{name}.conv") for name in self.maps}
        everywhere = overall(self.maps, conv_macs, (self.images.shape[2], self.images.shape[3]))
        maps = {"all gated layers": everywhere, **{name: self.maps[name] for name in spread(list(self.maps), LAYERS)}}
        figure = open_on_images(
            pixels(self.images, data.mean, data.std), {name: each.cpu().numpy() for name, each in maps.items()}
        )
        write_whole(self.run_dir / GATE_MAPS, small_png(figure))
        show(trainer, "Gates/where they let layers compute", figure)
        self.maps = {}
        del self.images


def different(labels: Sequence[int], number: int) -> list[int]:
    """The indices of the first `number` images, the first of each class before the second of any."""
    before = Counter[int]()  # of each class, so far
    ranked = []
    for index, label in enumerate(labels):
        ranked.append((before[label], index))
        before[label] += 1
    return [index for _, index in sorted(ranked)[:number]]


def spread(names: Sequence[str], number: int) -> list[str]:
    """At most `number` of `names`, evenly spaced, the first and the last among them."""
    last, number = len(names) - 1, min(number, len(names))
    return [names[round(index * last / max(1, number - 1))] for index in range(number)]


def pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalised images (N, C, H, W) as they were, (N, H, W, 3) from 0 to 1; in grey where C is not 3."""
    scale, shift = (torch.tensor(values)[:, None, None] for values in (std, mean))
    raw = (images.cpu().float() * scale + shift).clamp(0, 1)
    colours = raw if raw.shape[1] == 3 else raw.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return colours.permute(0, 2, 3, 1).numpy()

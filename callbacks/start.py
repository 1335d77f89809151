"""Start from a trained network: its weights, and in the place of its convolutions layers that approximate them."""

import logging
from dataclasses import asdict, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from callbacks.validation import validation_top1
from models.convert import MOST_IMAGES, Start, calibrate, start_from
from models.training.epochwise import Epochwise
from models.training.processes import gather_images, number_of_processes, share_from_first
from models.training.sharding import keep_changes

log = logging.getLogger(__name__)


class StartFrom(Epochwise, pl.Callback):
    """Gives `net` the weights of `source`, which `init` names, and fits its layers to that one's on training images.

    The first happens here, so that a network of another kind is refused before anything is trained; the second at the
    first step, on the first MOST_IMAGES of it or of several. A run that goes on from a checkpoint does neither again.
    """

    def __init__(self, net: nn.Module, init: str, source: nn.Module) -> None:
        self.init = init
        try:
            self.start = start_from(net, source)
        except ValueError as error:
            raise ValueError(f"init={init}: {error}; choose a run with the same model.backbone and data") from error
        self.source: nn.Module | None = source
        self.val_top1: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"errors": self.start.errors, "val_top1": self.val_top1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start = replace(self.start, errors=state_dict["errors"])
        self.val_top1 = state_dict["val_top1"]

    def record(self) -> dict[str, Any]:
        """What result.json says of the start."""
        return {"source": self.init, "val_top1": self.val_top1, **asdict(self.start)}

    @torch.no_grad()
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        source, self.source = self.source, None  # its memory is not needed any more
        if source is None or trainer.global_step:
            return
        net, data = pl_module.get_submodule("net"), trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        convert = trainer.precision_plugin.convert_input
        images = torch.cat([convert(batch) for batch, _ in data.training_sample(MOST_IMAGES)])
        images = gather_images(images[: -(-MOST_IMAGES // number_of_processes())].contiguous())[:MOST_IMAGES]
        eager = torch.compiler.set_stance("force_eager")  # a compiled network overlooks hooks that come and go
        with eager, torch.autocast(images.device.type, enabled=False):
            self.start = calibrate(net, source.to(images), self.start, images)
        share_from_first(net.parameters())
        share_from_first(net.buffers())
        keep_changes(net)
        self.val_top1 = validation_top1(trainer, net.eval())
        net.train()
        for line in start_lines(self.init, self.start, self.val_top1):
            log.info(line)


def start_lines(init: str, start: Start, val_top1: float | None) -> list[str]:
    """What is said of a start from `init`: how near layers come to their convolutions, what is new, how good it is."""
    lines = [f"the weights of {init}, {len(start.approximated)} of its convolutions approximated"]
    if start.errors:
        errors = ", ".join(f"{name} {error:.3f}" for name, error in start.errors.items())
        lines.append(f"error of each layer's output, relative to its convolution's: {errors}")
    if start.unlike:
        lines.append(f"{len(start.unlike)} layers know of no approximation and start at random: {start.unlike[0]}, ...")
    if start.anew:
        lines.append(f"another number of classes: {', '.join(start.anew)} start at random")
    if val_top1 is not None:
        lines.append(f"{val_top1:.2f} % of the validation images right before the first step")
    return lines

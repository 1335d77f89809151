"""Keep an average of the weights beside those that are trained."""

from typing import Any

import pytorch_lightning as pl
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from models.load import PREFIX
from models.training.epochwise import Epochwise
from models.training.processes import mean_over_processes

SAMPLE = 8192  # training images that BatchNorm's statistics are measured on; an epoch's, if fewer


class AveragedWeights(Epochwise, pl.Callback):
    """An exponential moving average of the weights: what validation and test judge and result.json reports.

    After step t: average <- d average + (1 - d) weights with d = min(decay, 1 - t ** (-2/3)), timm's ModelEmaV3 with
    its warm-up: without, the average of a short run is one of its beginning. In float32 at least. BatchNorm's
    statistics are no average, which would not fit the activations of averaged weights: before each validation and
    at the end of each epoch they are measured anew on training images (torch's update_bn).
    In a checkpoint `state_dict` is the averaged network, with these statistics at the end of an epoch and those of
    training within one; `trained_state_dict` is what training goes on from.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks.ema.decay={decay}: must lie in [0, 1); 0.999 is usual")
        self.decay = decay
        self.average: ModelEmaV3 | None = None
        self.loaded: dict[str, Tensor] | None = None  # the average that a checkpoint brought
        self.trained: dict[str, Tensor] | None = None  # what is trained, while the network holds the average
        self.step = 0  # of the last update
        self.measured_at = -1  # the step of the statistics

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.loaded = {name.removeprefix(PREFIX): tensor for name, tensor in checkpoint["state_dict"].items()}
        pl_module.load_state_dict(checkpoint["trained_state_dict"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = _network(pl_module)  # on its device by now
        if isinstance(net, FSDPModule):
            raise ValueError("callbacks=ema keeps no average of weights that are shared out; choose trainer=ddp")
        dtype = torch.promote_types(next(net.parameters()).dtype, torch.float32)
        self.average = ModelEmaV3(net, self.decay, use_warmup=True, dtype=dtype, exclude_buffers=True)
        if self.loaded:
            self.average.module.load_state_dict(self.loaded)
            self.loaded = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self.step:  # not where gradients only accumulate
            self.step = trainer.global_step
            self._average.update(_network(pl_module), self.step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._show(trainer, _network(pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._hide(_network(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.measured_at != trainer.global_step:  # no validation came before
            self._show(trainer, _network(pl_module))
            self._hide(_network(pl_module))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Whether this process trained to the end or found that another one had."""
        if self.average:
            _network(pl_module).load_state_dict(self.average.module.state_dict())

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["trained_state_dict"] = checkpoint["state_dict"]
        average = self._average.module.state_dict()
        checkpoint["state_dict"] = {PREFIX + name: tensor for name, tensor in average.items()}

    @property
    def _average(self) -> ModelEmaV3:
        assert self.average is not None
        return self.average

    def _show(self, trainer: pl.Trainer, net: nn.Module) -> None:
        """Put the average in the place of what is trained, with statistics that fit it."""
        self.trained = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        net.load_state_dict(self._average.module.state_dict())
        if self.measured_at != trainer.global_step:
            self.measured_at = trainer.global_step
            measure_statistics(net, trainer)
            for ours, measured in zip(self._average.module.buffers(), net.buffers(), strict=True):
                ours.copy_(measured)

    def _hide(self, net: nn.Module) -> None:
        assert self.trained is not None
        net.load_state_dict(self.trained)
        self.trained = None


@torch.no_grad()
def measure_statistics(net: nn.Module, trainer: pl.Trainer) -> None:
    """Set BatchNorm's statistics in `net` to their mean over batches of the first training images of this epoch.

    The same in all processes, each with its share of the images. The generators go on as if nothing had been drawn.
    """
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    plugin = trainer.precision_plugin
    images = (plugin.convert_input(batch) for batch, _ in data.training_sample(SAMPLE))
    device = trainer.strategy.root_device
    # Eagerly: to compile a network for these few batches takes longer than they do.
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.compiler.set_stance("force_eager"),
        plugin.forward_context(),
    ):
        update_bn(images, net)
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            mean_over_processes(module.running_mean)
            mean_over_processes(module.running_var)


def _network(pl_module: pl.LightningModule) -> nn.Module:
    net = pl_module.net
    assert isinstance(net, nn.Module)
    return net

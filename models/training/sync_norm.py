"""BatchNorm over the images of all processes, on GPUs and on CPUs."""

from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as Kernels
from torch.nn.modules.batchnorm import _BatchNorm

from .processes import number_of_processes, sum_over_processes, together

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


class SyncBatchNorm(TorchSyncBatchNorm):
    """What `trainer.sync_batchnorm=true` does: the statistics of a training step are those of all its images.

    Lightning's own plugin would lose the activations of timm's BatchNormAct2d, and PyTorch's layer refuses CPUs. Each
    layer stays the module it is, with its hooks, parameters and names; only its class changes.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Raises ValueError for a BatchNorm of another kind, whose forward pass is not known here."""
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, SyncedNorm):
                if type(module) not in KINDS:
                    raise ValueError(
                        f"trainer.sync_batchnorm=true: {name} is a {type(module).__name__}, which cannot be "
                        "synchronised; nearest: trainer.sync_batchnorm=false"
                    )
                module.__class__ = SyncedNormAct if isinstance(module, BatchNormAct2d) else SyncedNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """In evaluation the layers are what they were: nothing is to be undone."""
        return model


class SyncedNorm(_BatchNorm):
    """BatchNorm of x (N, C, ...) whose statistics in training are over all processes.

    Not a torch.nn.SyncBatchNorm, which DistributedDataParallel refuses on CPUs. On GPUs its kernels are used.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and together():
            return self._over_processes(input)
        return super().forward(input)

    @torch.compiler.disable()  # processes that compile at different moments would wait for each other
    def _over_processes(self, input: Tensor) -> Tensor:
        momentum = self._count()
        if input.device.type == "cpu":
            return self._normalise(input, momentum)
        statistics = self.running_mean, self.running_var, self.eps, momentum
        return Kernels.apply(
            input, self.weight, self.bias, *statistics, torch.distributed.group.WORLD, number_of_processes()
        )

    def _check_input_dim(self, input: Tensor) -> None:
        """The class that this was before has seen to it."""

    def _count(self) -> float:
        """Count this batch; the weight of its statistics in the running ones."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum

    def _normalise(self, x: Tensor, momentum: float) -> Tensor:
        """In two passes, mean and then variance, both differentiable; in float32 at least."""
        dims = [0, *range(2, x.ndim)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        number = x.numel() // x.shape[1] * number_of_processes()
        mean = _Sum.apply(wide.sum(dims)) / number
        centred = wide - _broadcast(mean, x)
        variance = _Sum.apply(centred.square().sum(dims)) / number
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * number / (number - 1), momentum)
        scale = torch.rsqrt(variance + self.eps)
        y = centred * _broadcast(scale if self.weight is None else scale * self.weight, x)
        return (y if self.bias is None else y + _broadcast(self.bias, x)).to(x.dtype)


class SyncedNormAct(SyncedNorm):
    """timm's BatchNormAct2d, whose activation is part of it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class _Sum(torch.autograd.Function):
    """The sum over all processes; each of them then depends on what every one has put in."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        sum_over_processes(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        sum_over_processes(total)
        return total


def _broadcast(values: Tensor, x: Tensor) -> Tensor:
    """`values` (C) so that they fit x (N, C, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))

"""How the processes of a run work together: Lightning's strategies, with the settings that a cluster asks for."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import set_model_state_dict

from .sharding import WHOLE, load_optimizer


def ddp(*, timeout_minutes: float) -> DDPStrategy:
    """Distributed data parallel: each process holds the network, the gradients are averaged.

    A process that waits for another one longer than `timeout_minutes` ends with an error: where a node is lost, so do
    the others. (PyTorch's own limits are 10 minutes for GPUs and 30 for CPUs.) Gradients are views of what is
    exchanged, which saves a copy of them. A static graph is not promised: gates are fitted in a pass of their own, and
    where gradients accumulate the passes differ.
    """
    return DDPStrategy(timeout=_limit(timeout_minutes), gradient_as_bucket_view=True)


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallel (PyTorch's fully_shard): weights, gradients and optimizer state are shared out.

    Each process keeps its part; the weights are put together for a step (models/training/sharding.py). The checkpoint
    is one file with everything, as without sharding. `timeout_minutes` as in `ddp`.
    """

    def __init__(self, *, timeout_minutes: float) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=_limit(timeout_minutes))

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        synchronise: Any = self._layer_sync
        if synchronise:
            synchronise.apply(self.model)
        super().setup(trainer)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Lightning takes optimizer states only in the order of the network, which is not that of its groups."""
        checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
        module = self.lightning_module
        assert module is not None
        set_model_state_dict(module, checkpoint["state_dict"], options=WHOLE)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            load_optimizer(module, optimizer, state)
        return checkpoint


def _limit(minutes: float) -> timedelta:
    if minutes <= 0:
        raise ValueError(f"trainer.strategy.timeout_minutes={minutes:g}: must be positive; 10 is usual")
    return timedelta(minutes=minutes)

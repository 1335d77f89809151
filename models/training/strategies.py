"""How the processes of a run work together: Lightning's strategies, with the settings that a cluster asks for."""

from datetime import timedelta

from pytorch_lightning.strategies import DDPStrategy


def ddp(*, timeout_minutes: float) -> DDPStrategy:
    """Distributed data parallel: each process holds the network, the gradients are averaged.

    A process that waits for another one longer than `timeout_minutes` ends with an error: where a node is lost, so do
    the others. (PyTorch's own limits are 10 minutes for GPUs and 30 for CPUs.) Gradients are views of what is
    exchanged, which saves a copy of them. A static graph is not promised: gates are fitted in a pass of their own, and
    where gradients accumulate the passes differ.
    """
    if timeout_minutes <= 0:
        raise ValueError(f"trainer.strategy.timeout_minutes={timeout_minutes:g}: must be positive; 10 is usual")
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes), gradient_as_bucket_view=True)

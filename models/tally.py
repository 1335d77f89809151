"""Count right answers on the device, without waiting for it."""

import torch
from torch import Tensor


class Tally:
    """Sums over batches of loss, images and hits; exact over any number of processes.

    `top` names the ranks a hit may have: (1, 5) counts top-1 and top-5.
    """

    def __init__(self, *top: int) -> None:
        self.top = top
        self.num = 0
        self.sums: list[Tensor] = []  # loss times images, then the hits of each rank

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch: its mean loss, logits (N, num_classes) and labels (N,)."""
        batch = [loss.detach() * len(labels), *(_hits(logits, labels, rank) for rank in self.top)]
        self.sums = [total + new for total, new in zip(self.sums, batch, strict=True)] if self.num else batch
        self.num += len(labels)

    def close(self) -> dict[str, float]:
        """Mean loss and e.g. top1 in percent over all processes since the last call."""
        sums = torch.stack([torch.full_like(self.sums[1], self.num), *self.sums]).double()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        self.num = 0
        num, loss, *hits = sums.tolist()
        return {"loss": loss / num} | {f"top{rank}": 100 * n / num for rank, n in zip(self.top, hits, strict=True)}


def _hits(logits: Tensor, labels: Tensor, rank: int) -> Tensor:
    if rank == 1:
        return (logits.argmax(1) == labels).sum()
    best = logits.topk(min(rank, logits.shape[1])).indices  # N, rank
    return (best == labels[:, None]).sum()

"""Count right answers on the device, without waiting for it."""

import torch
from torch import Tensor

from .processes import sum_over_processes


class Tally:
    """Losses, images and hits of batches; exact over any number of processes.

    `top` names the ranks a hit may have: (1, 5) counts top-1 and top-5, none only the loss.
    """

    def __init__(self, *top: int) -> None:
        self.top = top
        self.earlier = [0.0] * (2 + len(top))  # what a checkpoint brought: images, loss, hits of each rank
        self.batches: list[tuple[int, Tensor, list[Tensor]]] = []  # images, mean loss, hits of each rank

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch: its mean loss, logits (N, num_classes) and labels (N,), or (N, num_classes) where mixed.

        A mixed image counts as its larger part.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        hits = [_hits(logits, labels, rank) for rank in self.top]
        self.batches.append((len(labels), loss.detach(), hits))

    def close(self) -> dict[str, float]:
        """Mean loss and e.g. top1 in percent over all processes since the last call."""
        num, total, *right = self.sums()
        self.batches, self.earlier = [], [0.0] * len(self.earlier)
        return {"loss": total / num} | {f"top{rank}": 100 * n / num for rank, n in zip(self.top, right, strict=True)}

    def sums(self) -> list[float]:
        """Images, summed loss and hits of each rank over all processes, all of which must ask; zeros at first."""
        if not self.batches:
            return self.earlier
        images, losses, hits = zip(*self.batches, strict=True)
        loss = torch.stack(losses).double()
        weights = loss.new_tensor(images)
        sums = torch.stack(
            [weights.sum(), (loss * weights).sum(), *(torch.stack(rank).sum() for rank in zip(*hits, strict=True))]
        )
        sum_over_processes(sums)
        return [before + now for before, now in zip(self.earlier, sums.tolist(), strict=True)]


def _hits(logits: Tensor, labels: Tensor, rank: int) -> Tensor:
    if rank == 1:
        return (logits.argmax(1) == labels).sum()
    best = logits.topk(min(rank, logits.shape[1])).indices  # N, rank
    return (best == labels[:, None]).sum()

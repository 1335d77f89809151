"""Count right answers on the device, without waiting for it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .processes import sum_over_processes


class Tally:
    """Losses, images and hits of batches; exact over any number of processes.

    `top` names the ranks within which the right class may stand to count: (1, 5) counts top-1 and top-5, () only the
    loss. What `sums` returns is all that another process needs to go on: a checkpoint keeps it, `load` takes it back.
    """

    def __init__(self, *top: int) -> None:
        self.top = top
        self._earlier = [0.0] * (2 + len(top))  # images, summed loss and hits of each rank, before the batches
        self._batches: list[tuple[int, Tensor, list[Tensor]]] = []  # images, mean loss and hits of each rank

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: its mean loss, logits (N, num_classes) and labels (N,), or (N, num_classes) where mixed.

        The label of a mixed image is the class of its larger part.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        hits = [_hits(logits, labels, rank) for rank in self.top]
        self._batches.append((len(labels), loss.detach(), hits))

    def close(self) -> dict[str, float]:
        """As `totals`, and start again from nothing."""
        totals = self.totals()
        self.clear()
        return totals

    def clear(self) -> None:
        self.load([0.0] * (2 + len(self.top)))

    def totals(self) -> dict[str, float]:
        """Return the mean loss and e.g. top1 in percent, over all processes, each of which must call this."""
        num, total, *right = self.sums()
        return {"loss": total / num} | {f"top{rank}": 100 * n / num for rank, n in zip(self.top, right, strict=True)}

    def batches_since_no_number(self) -> int | None:
        """How many batches came after the first here whose loss was no finite number; None where there was none."""
        for number, (_, loss, _) in enumerate(self._batches, 1):
            if not loss.isfinite():
                return len(self._batches) - number
        return None

    def sums(self) -> list[float]:
        """Images, summed loss and hits of each rank over all processes, each of which must call this."""
        if not self._batches:
            return self._earlier
        images, losses, hits = zip(*self._batches, strict=True)
        loss = torch.stack(losses).double()
        weights = loss.new_tensor(images)
        sums = torch.stack(
            [weights.sum(), (loss * weights).sum(), *(torch.stack(rank).sum() for rank in zip(*hits, strict=True))]
        )
        sum_over_processes(sums)
        return [before + now for before, now in zip(self._earlier, sums.tolist(), strict=True)]

    def load(self, sums: list[float]) -> None:
        """Go on from `sums`, whatever was counted here before."""
        self._earlier, self._batches = list(sums), []


def judge(net: nn.Module, batch: tuple[Tensor, Tensor], tally: Tally) -> Tensor:
    """The logits of `net` for a batch, counted in `tally`; it is empty where only other processes have images left."""
    images, labels = batch
    number = len(labels)
    logits = net(images) if number else images.new_zeros(0, 1)
    loss = F.cross_entropy(logits, labels, reduction="sum") / max(1, number)
    tally.add(loss, logits, labels)
    return logits


def _hits(logits: Tensor, labels: Tensor, rank: int) -> Tensor:
    if rank == 1:
        return (logits.argmax(1) == labels).sum()
    best = logits.topk(min(rank, logits.shape[1])).indices  # N, rank
    return (best == labels[:, None]).sum()

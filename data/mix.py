"""Mix the images and labels of a batch: mixup and CutMix, by torchvision."""

from collections.abc import Callable

import torch
from torchvision.transforms import v2

from data.loader import Batch


def mixer(mixup: float, cutmix: float, num_classes: int) -> Callable[[Batch, int], Batch] | None:
    """A function of (batch, seed) that mixes each image with its neighbour; None where both strengths are 0.

    `mixup` (Zhang et al. 2017, arXiv:1710.09412) and `cutmix` (Yun et al. 2019, arXiv:1905.04899) are the alpha of
    their Beta(alpha, alpha); with both, each batch takes one of them at random. Labels become (N, num_classes).
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if alpha < 0:
            raise ValueError(f"data.{name}={alpha}: must be 0 (off) or more; 0.2 is usual for mixup, 1.0 for cutmix")
    kinds = [
        kind(alpha=alpha, num_classes=num_classes) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha
    ]
    if not kinds:
        return None

    def mix(batch: Batch, seed: int) -> Batch:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(seed)
            return kinds[int(torch.randint(len(kinds), (), device="cpu"))](*batch)

    return mix

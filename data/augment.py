"""Augment whole batches of images at once, on the device that holds them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from data.loader import Draw, derive_seed

Flip = Literal["random", "alternating"]


def crop(images: Tensor, padding: int, corners: Tensor) -> Tensor:
    """Pad with black on every side and cut a window of the old size out of each image.

    images (N, C, H, W) -> the same shape; corners (N, 2): top and left of each window, from 0 to 2 padding.
    """
    h, w = images.shape[2:]
    windows = F.pad(images, (padding,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # N, C, 2p+1, 2p+1, H, W: a view
    top, left = corners.unbind(1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror left to right those images (N, C, H, W) for which `mirrored` (N,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, centres: Tensor) -> Tensor:
    """Set a square of `size` pixels in each image to zero (DeVries and Taylor 2017, arXiv:1708.04552).

    images (N, C, H, W), normalised, so that zero is the mean colour; centres (N, 2): row and column. The part of
    the square outside the image is lost.
    """
    rows, columns = (
        _inside(centres[:, axis], size, images.shape[2 + axis], images.device) for axis in range(2)
    )  # N, H and N, W
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) -> float32, (x / 255 - mean) / std for each channel, laid out in memory as before."""
    n, c, h, w = images.shape
    exact = {"dtype": torch.float32, "device": images.device}
    scale = torch.tensor([1 / (255 * s) for s in std], **exact)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], **exact)
    if images.is_contiguous():
        return images.float().mul_(scale[:, None, None]).add_(shift[:, None, None])
    # Channels last: over whole rows of W * C numbers, three times faster on a CPU than over C at a time.
    rows = images.permute(0, 2, 3, 1).reshape(n, h, w * c).float().mul_(scale.repeat(w)).add_(shift.repeat(w))
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def mirrored(num_images: int, kind: Flip, seed: int, epoch: int) -> Tensor:
    """Which images are flipped in `epoch`, (num_images,): each with probability one half.

    "random" draws anew in each epoch; "alternating" (Jordan 2024, arXiv:2404.00498) draws once and then shows each
    image flipped and unflipped in turn.
    """
    if kind == "random":
        return _halves(num_images, derive_seed(seed, Draw.FLIP, epoch))
    return _halves(num_images, derive_seed(seed, Draw.FLIP)) ^ bool(epoch % 2)


def _halves(num: int, seed: int) -> Tensor:
    """(num,): true with probability one half. In float32 and on the CPU, as other types draw other numbers."""
    return torch.rand(num, generator=Generator().manual_seed(seed), dtype=torch.float32, device="cpu") < 0.5


def _inside(centre: Tensor, size: int, length: int, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device) - (centre[:, None] - size // 2)  # N, length
    return (distance >= 0) & (distance < size)

"""Augment whole batches of images at once, on the device that holds them."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Pad with black on every side and cut a random window of the old size out of each image.

    images (N, C, H, W) -> the same shape; one of (2 padding + 1)^2 windows an image, uniformly.
    """
    n, _, h, w = images.shape
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # N, C, 2p+1, 2p+1, H, W: a view
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator, device=images.device)
    return windows[torch.arange(n, device=images.device), :, top, left]


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with probability one half."""
    flip = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) -> float32, (x / 255 - mean) / std for each channel."""
    scale = torch.tensor([255 * s for s in std], device=images.device)[:, None, None]
    shift = torch.tensor([255 * m for m in mean], device=images.device)[:, None, None]
    return (images - shift) / scale

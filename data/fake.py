"""Random images and labels of any shape, the same in every run."""

from pathlib import Path

import torch

from data.in_memory import Arrays


def fake(root: Path, *, num_images: int, num_classes: int, input_size: int, channels: int) -> Arrays:
    """`num_images` for training and as many for the test, (N, channels, input_size, input_size).

    `root` is not used. Every class occurs. For timing and trying out; there is nothing to learn.
    """
    if num_images < num_classes:
        raise ValueError(f"data.load.num_images={num_images}: at least one for each of the {num_classes} classes")
    generator = torch.Generator().manual_seed(0)
    shape = (2 * num_images, channels, input_size, input_size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator, device="cpu")
    labels = torch.arange(num_images, device="cpu") % num_classes
    return Arrays(images[:num_images], labels, images[num_images:], labels)

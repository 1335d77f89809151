"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32."""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100

from data.in_memory import Arrays
from data.root import download


def cifar10(root: Path) -> Arrays:
    """Images (N, 3, 32, 32) in 10 classes: 50,000 for training, 10,000 for the test.

    Read from `root`/cifar-10-batches-py, else downloaded into `root` by torchvision.
    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    return _read(CIFAR10, root, "CIFAR-10")


def cifar100(root: Path) -> Arrays:
    """As `cifar10`, in 100 classes, from `root`/cifar-100-python."""
    return _read(CIFAR100, root, "CIFAR-100")


def _read(dataset: type[CIFAR10], root: Path, name: str) -> Arrays:
    def read(fetch: bool) -> list[CIFAR10]:
        return [dataset(str(root), train=train, download=fetch) for train in (True, False)]

    if (root / dataset.base_folder).is_dir():
        sets = read(False)
    else:
        sets = download(lambda: read(True), root, name, f"{dataset.base_folder}/", "170 MB")
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in sets]
    labels = [torch.tensor(part.targets) for part in sets]
    return Arrays(images[0], labels[0], images[1], labels[1])

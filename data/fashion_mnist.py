"""Fashion-MNIST: 70,000 grey images of clothing in 10 classes."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST

from data.in_memory import Arrays
from data.root import download

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist


def fashion_mnist(root: Path) -> Arrays:
    """Images (N, 1, 32, 32), the 28 x 28 originals padded with zeros: 60,000 for training, 10,000 for the test.

    Read from `root` (FashionMNIST/raw, torchvision's layout) if it is there, else from Debian's
    package dataset-fashion-mnist, else downloaded into `root` by torchvision.
    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """
    here = (root / "FashionMNIST").is_dir()
    if not here and DEBIAN.is_dir():
        return Arrays(*_read_debian("train"), *_read_debian("t10k"))
    if here:
        sets = _read(root, fetch=False)
    else:
        layout = "FashionMNIST/raw/train-images-idx3-ubyte and its three companions"
        sets = download(lambda: _read(root, fetch=True), root, "Fashion-MNIST", layout, "30 MB")
    return Arrays(*(tensor for part in sets for tensor in (_pad(part.data), part.targets)))


def _read(root: Path, fetch: bool) -> list[FashionMNIST]:
    return [FashionMNIST(str(root), train=train, download=fetch) for train in (True, False)]


def _read_debian(part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of the idx files: a header of 16 and of 8 bytes, then one byte a value."""
    pixels = _bytes(DEBIAN / f"{part}-images-idx3-ubyte.gz")[16:]
    labels = _bytes(DEBIAN / f"{part}-labels-idx1-ubyte.gz")[8:]
    return _pad(pixels.view(-1, 28, 28)), labels.long()


def _bytes(path: Path) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8).copy())


def _pad(images: Tensor) -> Tensor:
    return F.pad(images[:, None], (2, 2, 2, 2))  # N, 1, 32, 32

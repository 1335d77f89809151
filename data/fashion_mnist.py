"""Fashion-MNIST: 70,000 grey images of clothing in 10 classes."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import download_url

from data.absent import DEBIAN_FASHION_MNIST as DEBIAN
from data.absent import FASHION_MNIST
from data.download import download
from data.in_memory import Arrays

SIDE, BORDER = 28, 2  # pixels of an original, and of the border on each side
RAW = "FashionMNIST/raw"  # torchvision's layout
CONTENTS = {  # size in bytes and SHA-256 of each file, uncompressed
    "train-images-idx3-ubyte": (47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


def fashion_mnist(root: Path) -> Arrays:
    """Images (N, 1, 32, 32), the 28 x 28 originals padded with zeros: 60,000 for training, 10,000 for the test.

    Each of the four files is read from the first place that has it: `root`/FashionMNIST/raw, there compressed,
    Debian's package dataset-fashion-mnist; those that none has are downloaded. ValueError where one is damaged.
    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """
    if not all(_places(root, name) for name in CONTENTS):
        download(lambda: _fetch(root), root, "Fashion-MNIST", FASHION_MNIST)
    return Arrays(*_part(root, "train"), *_part(root, "t10k"), FashionMNIST.classes, BORDER / SIDE)


def _places(root: Path, name: str) -> list[Path]:
    """Where the file `name` is, the first to be read first."""
    return [path for path in (root / RAW / name, root / RAW / f"{name}.gz", DEBIAN / f"{name}.gz") if path.is_file()]


def _part(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of the idx files: a header of 16 and of 8 bytes, then one byte a value."""
    pixels, labels = (_read(root, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    images = pixels[16:].view(-1, 1, SIDE, SIDE)
    return F.pad(images, (BORDER,) * 4), labels[8:].long()


def _read(root: Path, name: str) -> Tensor:
    path, *others = _places(root, name)
    size, sha256 = CONTENTS[name]
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            contents = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error), others) from error
    if len(contents) != size:
        raise _damaged(
            path, f"{'more than ' * (len(contents) > size)}{min(len(contents), size):,} bytes of {size:,}", others
        )
    if hashlib.sha256(contents).hexdigest() != sha256:
        raise _damaged(path, f"the SHA-256 of its contents is not {sha256}", others)
    return torch.from_numpy(np.frombuffer(contents, np.uint8).copy())


def _damaged(path: Path, problem: str, others: list[Path]) -> ValueError:
    if path.parent == DEBIAN:
        remedy = "install it again: apt-get install --reinstall dataset-fashion-mnist"
    else:
        remedy = f"remove it and run again to {f'read {others[0]}' if others else 'download it'}"
    return ValueError(f"{path} is not Fashion-MNIST's, or damaged ({problem}); {remedy}")


def _fetch(root: Path) -> None:
    """Download what is missing; each file gets its name only when it is complete."""
    for archive, md5 in FashionMNIST.resources:
        if not _places(root, Path(archive).stem):
            download_url(f"{FashionMNIST.mirrors[0]}{archive}", root / RAW, f"{archive}.partial", md5)
            (root / RAW / f"{archive}.partial").replace(root / RAW / archive)

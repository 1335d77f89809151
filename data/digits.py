"""Handwritten digits: the 1,797 scans of 8 x 8 that ship with scikit-learn."""

import zlib
from gzip import BadGzipFile
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from data.in_memory import Arrays

TEST_IMAGES = 360


def digits(root: Path) -> Arrays:
    """Images (N, 1, 8, 8) in 10 classes: 1,437 for training, 360 for the test, a fixed random split.

    `root` is not used: the images are part of the package; ValueError where they are damaged there.
    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository.
    """
    try:
        pixels, target = load_digits(return_X_y=True)  # compressed, with a checksum
    except (EOFError, BadGzipFile, zlib.error, ValueError, IndexError) as error:
        raise ValueError(
            f"scikit-learn's digits are damaged ({error}); install it again: pip install --force-reinstall scikit-learn"
        ) from error
    images = torch.from_numpy(pixels).mul(255 / 16).round().byte().view(-1, 1, 8, 8)  # grey levels 0..16
    labels = torch.from_numpy(target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0), device="cpu")
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return Arrays(images[train], labels[train], images[test], labels[test])

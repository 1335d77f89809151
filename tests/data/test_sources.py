"""Reading data sets from folders in the layouts that users have; no network."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from data import cifar, fashion_mnist
from data.cifar import cifar10
from data.fashion_mnist import fashion_mnist as load_fashion_mnist


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, opener) -> None:
    suffix = ".gz" if opener is gzip.open else ""
    with opener(folder / f"{part}-images-idx3-ubyte{suffix}", "wb") as file:
        file.write(np.array([0x803, *images.shape], ">i4").tobytes() + images.tobytes())
    with opener(folder / f"{part}-labels-idx1-ubyte{suffix}", "wb") as file:
        file.write(np.array([0x801, len(labels)], ">i4").tobytes() + labels.tobytes())


@pytest.mark.parametrize("layout", ["debian", "torchvision"])
def test_fashion_mnist_reads_both_layouts(tmp_path: Path, monkeypatch, layout: str) -> None:
    folder = tmp_path / ("package" if layout == "debian" else "root/FashionMNIST/raw")
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    for part in ("train", "t10k"):
        write_idx(folder, part, images, labels, gzip.open if layout == "debian" else open)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "package")
    arrays = load_fashion_mnist(tmp_path / "root")
    assert arrays.train_images.shape == (7, 1, 32, 32)
    assert torch.equal(arrays.test_images[:, 0, 2:-2, 2:-2], torch.from_numpy(images))
    assert arrays.test_images.sum() == int(images.sum())  # the border is black
    assert arrays.train_labels.tolist() == list(range(7))


def test_cifar10_reads_the_python_batches(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    data = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 9, 3, 5]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(cifar.CIFAR10, "_check_integrity", lambda self: True)  # the checksums are of the real files
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    arrays = cifar10(tmp_path)
    assert arrays.train_images.shape == (20, 3, 32, 32)
    assert torch.equal(arrays.test_images, torch.from_numpy(data).view(4, 3, 32, 32))  # red, green, blue planes
    assert arrays.test_labels.tolist() == [0, 9, 3, 5]


@pytest.mark.parametrize(
    ("load", "layout"), [(cifar10, "cifar-10-batches-py"), (load_fashion_mnist, "FashionMNIST/raw")]
)
def test_a_missing_folder_is_explained(tmp_path: Path, monkeypatch, load, layout: str) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not installed")
    with pytest.raises(FileNotFoundError, match=f"no folder .*/nowhere to read .*{layout}.*mkdir -p"):
        load(tmp_path / "nowhere")


def test_a_failed_download_is_explained(tmp_path: Path, monkeypatch) -> None:
    def offline(*arguments, **named):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(
        OSError, match=r"CIFAR-10 is not in .*could not be downloaded \(no route to host\); put cifar-10"
    ):
        cifar10(tmp_path)

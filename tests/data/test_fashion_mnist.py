"""Fashion-MNIST from every place that may hold it, whole and damaged; downloads come from a server of our own."""

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from data import fashion_mnist
from data.fashion_mnist import fashion_mnist as load_fashion_mnist

CLOTHES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
IDX = {
    f"{part}-{kind}-ubyte": header.tobytes() + values.tobytes()
    for part in ("train", "t10k")
    for kind, header, values in (
        ("images-idx3", np.array([0x803, *CLOTHES.shape], ">i4"), CLOTHES),
        ("labels-idx1", np.array([0x801, 7], ">i4"), np.arange(7, dtype=np.uint8)),
    )
}


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """Seven images in each part as torchvision's raw files, in Debian's folder and for a download; a root."""
    raw, debian, served = tmp_path / "root/FashionMNIST/raw", tmp_path / "package", tmp_path / "served"
    for folder in (raw, debian, served):
        folder.mkdir(parents=True)
    for name, contents in IDX.items():
        (raw / name).write_bytes(contents)
        for folder in (debian, served):
            (folder / f"{name}.gz").write_bytes(gzip.compress(contents, mtime=0))
    sums = {name: (len(contents), hashlib.sha256(contents).hexdigest()) for name, contents in IDX.items()}
    monkeypatch.setattr(fashion_mnist, "CONTENTS", sums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", debian)
    archives = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(served.iterdir())]
    monkeypatch.setattr(fashion_mnist.FashionMNIST, "resources", archives)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served))) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(fashion_mnist.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield tmp_path / "root"
        server.shutdown()


def check_clothes(root: Path) -> None:
    arrays = load_fashion_mnist(root)
    assert arrays.train_images.shape == (7, 1, 32, 32)
    assert torch.equal(arrays.test_images[:, 0, 2:-2, 2:-2], torch.from_numpy(CLOTHES))
    assert arrays.test_images.sum() == int(CLOTHES.sum())  # the border is black
    assert arrays.train_labels.tolist() == list(range(7))


def test_fashion_mnist_is_read_from_wherever_it_is_and_else_downloaded(fashion: Path) -> None:
    check_clothes(fashion)
    raw, package = fashion / "FashionMNIST/raw", fashion.parent / "package"
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    check_clothes(fashion)  # compressed, as torchvision leaves them too
    shutil.rmtree(raw.parent)
    check_clothes(fashion)  # Debian's
    shutil.rmtree(package)
    check_clothes(fashion)  # downloaded
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    (raw / "t10k-labels-idx1-ubyte.gz.partial").write_bytes(b"a download cut short")
    check_clothes(fashion)
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in IDX)


def flipped(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :]


DAMAGE = {
    "empty": (lambda contents: b"", "0 bytes of 5,504"),
    "cut short": (lambda contents: contents[:-100], "bytes of 5,504|ended before the end-of-stream marker"),
    "a flipped byte": (flipped, "SHA-256|Error -3|CRC check failed"),
    "an error page": (lambda contents: b"<html>not found</html>", "22 bytes of 5,504|Not a gzipped file"),
    "too long": (lambda contents: contents + contents, "more than 5,504 bytes of 5,504"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("place", ["raw", "compressed", "debian"])
def test_damaged_fashion_mnist_is_explained(fashion: Path, place: str, kind: str) -> None:
    name = "train-images-idx3-ubyte"
    damage, problem = DAMAGE[kind]
    raw = fashion / "FashionMNIST/raw" / name
    package = fashion.parent / f"package/{name}.gz"
    path = {"raw": raw, "compressed": raw.with_suffix(".gz"), "debian": package}[place]
    whole = raw.read_bytes() if place == "raw" else package.read_bytes()
    if place != "raw":
        shutil.rmtree(fashion / "FashionMNIST") if place == "debian" else raw.unlink()
    path.write_bytes(damage(whole))
    remedy = "apt-get install --reinstall" if place == "debian" else f"remove it and run again to read {package}"
    with pytest.raises(ValueError, match=f"{path} is not Fashion-MNIST's, or damaged .*({problem}).*; .*{remedy}"):
        load_fashion_mnist(fashion)
    if place != "debian":
        package.unlink()
        with pytest.raises(ValueError, match="; remove it and run again to download it"):
            load_fashion_mnist(fashion)


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs apt-get install dataset-fashion-mnist")
def test_the_real_fashion_mnist_has_these_checksums(tmp_path: Path) -> None:
    arrays = load_fashion_mnist(tmp_path)
    assert (len(arrays.train_labels), len(arrays.test_labels)) == (60_000, 10_000)
    assert arrays.test_labels.bincount().tolist() == [1000] * 10

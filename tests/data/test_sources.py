"""Reading data sets from folders in the layouts that users have; no network."""

import gzip
import hashlib
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from data import cifar, fashion_mnist
from data.cifar import cifar10, cifar100
from data.digits import digits
from data.fashion_mnist import fashion_mnist as load_fashion_mnist
from tests.conftest import ROOT

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


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
LABELS = [0, 9, 3, 5]


@pytest.fixture
def batches(tmp_path: Path, monkeypatch) -> Path:
    """torchvision's folder of CIFAR-10 with four images a file; the checksums, of the real files, are left out."""
    folder = tmp_path / "root/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({"data": PIXELS.reshape(4, 3072), "labels": LABELS}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(cifar.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    return folder


@pytest.fixture
def archive(batches: Path, monkeypatch) -> Path:
    """The same as an archive alone."""
    path = batches.parent / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, batches.name)
    shutil.rmtree(batches)
    monkeypatch.setattr(cifar.CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


def check(arrays) -> None:
    assert arrays.train_images.shape == (20, 3, 32, 32)
    assert torch.equal(arrays.test_images, torch.from_numpy(PIXELS))  # red, green, blue planes
    assert arrays.test_labels.tolist() == LABELS


@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
def test_damaged_digits_are_explained(tmp_path: Path, monkeypatch) -> None:
    real = Path(sklearn.datasets.__file__).parent / "data/digits.csv.gz"
    shutil.copy(real.parents[1] / "descr/digits.rst", tmp_path)
    monkeypatch.setattr("sklearn.datasets._base.resources.files", lambda module: tmp_path)
    for damaged in (b"", real.read_bytes()[:5000], flipped(real.read_bytes()), b"<html>not found</html>"):
        (tmp_path / real.name).write_bytes(damaged)
        with pytest.raises(ValueError, match="scikit-learn's digits are damaged .*pip install --force-reinstall"):
            digits(tmp_path)


def test_cifar10_reads_the_python_batches(batches: Path) -> None:
    check(cifar10(batches.parent))


def test_cifar10_unpacks_the_archive_without_a_download(archive: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar, "download_url", None)
    check(cifar10(archive.parent))


def test_a_damaged_archive_is_explained_and_not_downloaded_again(archive: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar, "download_url", None)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match="cifar-10-python.tar.gz is not CIFAR-10: its MD5 sum .* remove it and run again"
    ):
        cifar10(archive.parent)


def test_a_damaged_folder_is_explained(batches: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar.CIFAR10, "_check_integrity", lambda self: False)
    (batches / "data_batch_3").unlink()
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5: path.is_file())
    with pytest.raises(
        ValueError,
        match="cifar-10-batches-py is incomplete or damaged .data_batch_3 missing or not .*; remove it and run again",
    ):
        cifar10(batches.parent)


def test_unpacking_that_was_killed_starts_again(archive: Path) -> None:
    half = archive.parent / ".cifar-10-batches-py.partial/cifar-10-batches-py"
    half.mkdir(parents=True)
    (half / "data_batch_1").write_bytes(b"half")
    check(cifar10(archive.parent))
    assert not half.parent.exists()


STARTED_AT_ONCE = """
import sys, time
from pathlib import Path
from data.root import download
root = Path(sys.argv[1])
def fetch():
    if (root / "set").is_file():
        return
    with (root / "set.partial").open("x") as file:  # fails where another is at it
        time.sleep(1)
        file.write("whole")
    (root / "set.partial").replace(root / "set")
    print("downloaded")
download(fetch, root, "Set", "set", "1 MB")
assert (root / "set").read_text() == "whole"
"""


def test_two_runs_started_at_once_download_once(tmp_path: Path) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", STARTED_AT_ONCE, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(said) == [b"", b"downloaded\n"]


@pytest.mark.parametrize(
    ("load", "name", "label"), [(cifar10, "cifar10", "label"), (cifar100, "cifar100", "fine_label")]
)
def test_cifar_reads_parquet_files(tmp_path: Path, monkeypatch, load, name: str, label: str) -> None:
    monkeypatch.setattr(cifar, "NUM_IMAGES", {"train": 4, "test": 4})
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / name / "plain_text"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{name} holds no train.*.parquet; download the data set there again"):
        load(tmp_path)
    for part in ("train", "test"):
        pictures = []
        for pixels in PIXELS:
            buffer = BytesIO()
            Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
            pictures.append({"bytes": buffer.getvalue(), "path": None})
        parquet.write_table(pyarrow.table({"img": pictures, label: LABELS}), folder / f"{part}-00000-of-00001.parquet")
    arrays = load(tmp_path)
    assert torch.equal(arrays.test_images, torch.from_numpy(PIXELS))
    assert arrays.train_labels.tolist() == LABELS
    path = folder / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    shutil.copy(path, folder / "train-00001-of-00001.parquet")
    with pytest.raises(ValueError, match=f"{name} holds 8 images in train.*.parquet, .* has 4: files are missing, or"):
        load(tmp_path)
    (folder / "train-00001-of-00001.parquet").unlink()
    picture = whole.index(b"IDAT") + 20
    for damaged in (b"", whole[:-100], whole[:picture] + bytes(8) + whole[picture + 8 :]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-00000-of-00001.parquet is damaged .*; download it again"):
            load(tmp_path)


def test_cifar_is_downloaded_whole_from_the_first_host_that_answers(archive: Path, tmp_path: Path, monkeypatch) -> None:
    asked = []

    def serve(url: str, root: Path, filename: str, md5: str) -> None:
        asked.append(url)
        if len(asked) == 1:
            (root / filename).write_bytes(b"cut short")
            raise RuntimeError("File not found or corrupted.")
        shutil.copy(archive, root / filename)

    monkeypatch.setattr(cifar, "download_url", serve)
    root = tmp_path / "empty"
    root.mkdir()
    check(cifar10(root))
    assert asked == list(cifar.TEN.urls)
    check(cifar10(root))
    assert len(asked) == 2  # never a second time
    assert not list(root.glob("*.partial"))


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

    monkeypatch.setattr(cifar, "download_url", offline)
    with pytest.raises(
        OSError, match=r"CIFAR-10 is not in .*could not be downloaded \(.*no route to host.*\); put cifar-10"
    ):
        cifar10(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".CIFAR-10.lock"]  # nothing that could be read

"""Reading data sets from folders in the layouts that users have; no network."""

import hashlib
import pickle
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from data import cifar, cifar_classes
from data.cifar import cifar10, cifar100
from data.digits import digits
from tests.conftest import ROOT
from tests.data.test_fashion_mnist import flipped

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
    assert list(cifar10(batches.parent).classes)[::9] == ["airplane", "truck"]


def test_the_classes_of_cifar_are_in_the_order_of_their_labels() -> None:
    """Which is that of the alphabet in both."""
    for names, number in ((cifar_classes.TEN, 10), (cifar_classes.HUNDRED, 100)):
        assert names == sorted(set(names))
        assert len(names) == number


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
from data.absent import Expected
from data.download import download
root = Path(sys.argv[1])
def fetch():
    if (root / "set").is_file():
        return
    with (root / "set.partial").open("x") as file:  # fails where another is at it
        time.sleep(1)
        file.write("whole")
    (root / "set.partial").replace(root / "set")
    print("downloaded")
download(fetch, root, "Set", Expected("set", "make it"))
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


def test_a_failed_download_is_explained(tmp_path: Path, monkeypatch) -> None:
    def offline(*arguments, **named):
        raise OSError("no route to host")

    monkeypatch.setattr(cifar, "download_url", offline)
    with pytest.raises(
        OSError,
        match=r"CIFAR-10 is not in .*could not be downloaded \(.*no route to host.*\); put it there(.|\n)*cifar-10",
    ):
        cifar10(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".CIFAR-10.lock"]  # nothing that could be read

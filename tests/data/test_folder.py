"""Image folders as users have them: what is read, and what each kind of disorder is answered with."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data.folder import image_folder
from data.images import Names
from scripts.benchmarks.photographs import write_photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root, 30, 12, (64, 48))
    return root


@pytest.fixture
def root(photographs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photographs, tmp_path / "root"))


def test_classes_are_numbered_by_name(root: Path) -> None:
    sets = image_folder(root)
    assert sets.classes == ["astronaut", "chelsea", "china", "coffee", "flower", "rocket"]
    assert (len(sets.train), len(sets.test)) == (30, 12)
    assert np.bincount(sets.train.labels).tolist() == [5] * 6
    for index, label in enumerate(sets.train.labels):
        path = Path(sets.train.name(index))
        assert path.parent.name == sets.classes[label]
        assert sets.train.read(index) == path.read_bytes()


def test_hidden_and_other_files_are_left_out_and_counted(root: Path, caplog) -> None:
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "train/china/.DS_Store").touch()
    (root / "train/china/notes.txt").touch()
    with caplog.at_level("INFO"):
        assert len(image_folder(root).train) == 30
    assert "not read: 1 hidden, 1 .txt" in caplog.text


def test_images_in_folders_within_a_class_and_behind_links_are_read(root: Path) -> None:
    (root / "train/china/images").mkdir()
    for path in list((root / "train/china").glob("*.jpg")):
        path.rename(path.parent / "images" / path.name)
    (root / "elsewhere").mkdir()
    (root / "train/flower").rename(root / "elsewhere/flower")
    (root / "train/flower").symlink_to(root / "elsewhere/flower")
    assert len(image_folder(root).train) == 30


def test_links_in_a_circle_end(root: Path) -> None:
    (root / "train/china/loop.jpg").symlink_to("loop.jpg")  # itself: listed, and unreadable
    assert len(image_folder(root).train) == 31
    (root / "train/china/up").symlink_to(root / "train")
    with pytest.raises(
        ValueError, match="china/up links to a folder that it lies in, which would never end; remove it"
    ):
        image_folder(root)


def remove(path: Path) -> None:
    shutil.rmtree(path)


def flatten(folder: Path) -> None:
    for path in list(folder.glob("*/*.jpg")):
        path.rename(folder / path.name)


def devkit(root: Path) -> None:
    remove(root / "train")
    (root / "ILSVRC2012_img_train.tar").touch()


def kaggle(root: Path) -> None:
    inner = root / "ILSVRC/Data/CLS-LOC"
    inner.mkdir(parents=True)
    for part in ("train", "val"):
        (root / part).rename(inner / part)


def emptied(folder: Path) -> None:
    remove(folder)
    folder.mkdir()


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


def composed_and_decomposed(root: Path) -> None:
    """As after a copy over a Mac's file system; the same letters, so that a list of both tells nothing."""
    rename(root / "train/china", unicodedata.normalize("NFC", "café"))
    rename(root / "val/china", unicodedata.normalize("NFD", "café"))


def both_forms(root: Path) -> None:
    for part in ("train", "val"):
        for name, form in (("china", "NFC"), ("coffee", "NFD")):
            rename(root / part / name, unicodedata.normalize(form, "café"))


DISORDER = {
    "unicode forms": (
        composed_and_decomposed,
        r"'caf\\xe9' in train and 'cafe\\u0301' in val differ only in their Unicode form .*: rename one",
    ),
    "both forms": (both_forms, "train has the class café twice, in two Unicode forms that look the same"),
    "capitals": (
        lambda root: rename(root / "val/china", "China"),
        "'china' in train and 'China' in val differ only in capital letters: rename one to the other",
    ),
    "spaces": (lambda root: rename(root / "train/china", "china "), "'china ' in .*differ only in spaces at an end"),
    "hidden class": (lambda root: rename(root / "val/china", ".china"), r"val/.china is hidden, and so left out"),
    "a file as root": (
        lambda root: (remove(root), root.touch()),
        "root is a file, not a folder; expected in data.root",
    ),
    "no root": (remove, "no folder .*; expected in data.root"),
    "no val": (lambda root: remove(root / "val"), "has no folder val; expected root/train/<class>.* It holds train"),
    "archives": (devkit, "ImageNet's archives .ILSVRC2012_img_train.tar.: unpack"),
    "kaggle": (kaggle, "Did you mean data.root=.*/ILSVRC/Data/CLS-LOC?"),
    "empty root": (emptied, "has no folder train and no folder val; .* It is empty"),
    "empty train": (lambda root: emptied(root / "train"), "train is empty; expected"),
    "flat val": (lambda root: flatten(root / "val"), "val holds 12 images outside any class .*devkit"),
    "missing class": (lambda root: remove(root / "val/china"), "train and val differ: .*val lacks china. Both"),
    "extra class": (lambda root: remove(root / "train/china"), "train and val differ: .*train lacks china. Both"),
    "empty class": (lambda root: emptied(root / "train/china"), "train/china holds no images; fill it, or remove"),
}


@pytest.mark.parametrize("disorder", DISORDER)
def test_disorder_is_explained(root: Path, disorder: str) -> None:
    change, message = DISORDER[disorder]
    change(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        image_folder(root)


def test_names_are_kept_exactly_in_little_memory() -> None:
    odd = ["a", "", "dächer/ø.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    names = Names(odd)
    assert [names[index] for index in range(len(names))] == odd
    many = Names(f"n{index % 1000:08}/n{index % 1000:08}_{index}.JPEG" for index in range(100_000))
    assert many[99_999] == "n00000999/n00000999_99999.JPEG"
    assert many.letters.nbytes + many.ends.nbytes < 100_000 * 45  # ImageNet: 28 letters and 8 bytes a name

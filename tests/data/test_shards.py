"""Shards against the folder they are made of, and what happens to them on the way."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from data.decode import BadImageError
from data.folder import image_folder
from data.shards import shards
from scripts import make_shards
from scripts.benchmarks.photographs import write_photographs


def make(root: Path, out: Path, images_per_shard: int = 8) -> None:
    """What the command does; test_resume.py runs it."""
    make_shards.main(OmegaConf.create({"root": str(root), "out": str(out), "images_per_shard": images_per_shard}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root, out = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("shards")
    write_photographs(root, 30, 12, (64, 48))
    make(root, out)
    return root, out


@pytest.fixture
def out(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "out"))


def test_shards_hold_every_image_of_the_folder_once(made: tuple[Path, Path]) -> None:
    folder, packed = image_folder(made[0]), shards(made[1])
    assert packed.classes == folder.classes
    for ours, theirs in ((packed.train, folder.train), (packed.test, folder.test)):
        contents = {(ours.read(index), int(ours.labels[index])) for index in range(len(ours))}
        assert len(contents) == len(ours)
        assert contents == {(theirs.read(index), int(theirs.labels[index])) for index in range(len(theirs))}
    assert not np.array_equal(packed.train.labels, folder.train.labels)  # mixed


def test_shards_are_tar_files_of_images_and_labels_as_webdataset_expects(made: tuple[Path, Path]) -> None:
    packed = shards(made[1])
    with tarfile.open(made[1] / "train-000001.tar") as tar:
        members = tar.getmembers()
        assert [Path(member.name).suffix for member in members] == [".jpg", ".cls"] * 8
        for position in range(8):
            image, label = (tar.extractfile(member) for member in members[2 * position : 2 * position + 2])
            assert image is not None
            assert label is not None
            assert image.read() == packed.train.read(8 + position)
            assert int(label.read()) == packed.train.labels[8 + position]


def test_making_goes_on_where_it_stopped(made: tuple[Path, Path], out: Path, capsys) -> None:
    expected = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    for name in ("shards.json", "train-000002.npz", "val-000000.npz"):
        (out / name).unlink()
    (out / "train-000002.tar").unlink()
    (out / "train-000002.tar.partial").write_bytes(b"half")
    untouched = (out / "train-000000.tar").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"no .*shards.json; make shards with: python scripts/make_shards.py"):
        shards(out)
    make(made[0], out)
    assert "30 training and 12 test images" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == expected
    assert (out / "train-000000.tar").stat().st_mtime_ns == untouched
    with pytest.raises(ValueError, match="holds shards of other images or of another images_per_shard; choose another"):
        make(made[0], out, 9)


def test_two_never_write_the_same_shards(made: tuple[Path, Path], out: Path) -> None:
    with FileLock(out / ".lock"), pytest.raises(ValueError, match=f"another make_shards.py is writing to {out}; wait"):
        make(made[0], out)


def test_damage_is_found(out: Path, tmp_path: Path) -> None:
    shard = out / "train-000000.tar"
    whole = shard.read_bytes()
    packed = shards(out)
    at = int(packed.train.offset[3]) + 100
    shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(BadImageError, match="the checksum is wrong"):
        shards(out).train.read(3)
    assert shards(out).train.read(2)
    index = shard.with_suffix(".npz")
    kept = index.read_bytes()
    at = len(kept) // 2
    for damaged in (b"", kept[:-50], kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :]):
        index.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-000000.npz is damaged .*; copy it again, or remove it and run"):
            shards(out)
    index.write_bytes(kept)
    for damaged in ("", (out / "shards.json").read_text()[:-20], "[]", "{}"):
        (tmp_path / "shards.json").write_text(damaged)
        with pytest.raises(ValueError, match="shards.json is damaged .*; copy it again, or run scripts/make_shards"):
            shards(tmp_path)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ValueError, match="train-000000.tar has .* bytes of at least .*: it is cut short; copy it again"
    ):
        shards(out)
    shard.unlink()
    with pytest.raises(ValueError, match="train-000000.tar is missing; copy it again"):
        shards(out)

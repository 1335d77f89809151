"""Hugging Face's storage, where its library is installed, and the message where it is not."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from data.folder import image_folder
from data.hugging_face import hugging_face
from scripts.benchmarks.photographs import write_photographs

COLUMNS = {"image": "image", "label": "label", "test": "validation"}


def test_the_missing_library_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="read by its library: pip install datasets"):
        hugging_face(tmp_path, **COLUMNS)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs pip install datasets")
@pytest.mark.filterwarnings("ignore")
def test_a_stored_data_set_is_the_folder_it_was_made_of(tmp_path: Path, monkeypatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_photographs(tmp_path / "folder", 18, 6, (64, 48))
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(str(tmp_path / "stored"))
    (tmp_path / "parquet").mkdir()
    for split in ("train", "validation"):
        loaded[split].to_parquet(str(tmp_path / f"parquet/{split}-00000-of-00001.parquet"))
    folder = image_folder(tmp_path / "folder")
    for kind in ("stored", "parquet"):
        sets = hugging_face(tmp_path / kind, **COLUMNS)
        assert sets.classes == folder.classes
        for ours, theirs in ((sets.train, folder.train), (sets.test, folder.test)):
            contents = [{(part.read(i), int(part.labels[i])) for i in range(len(part))} for part in (ours, theirs)]
            assert contents[0] == contents[1]
    assert sets.train.name(3) == f"{tmp_path / 'parquet'}, train, row 3"
    for change, message in (
        ({"test": "test"}, "has no split test; it has train, validation"),
        ({"image": "img"}, "has no column img; it has image, label"),
        ({"label": "image"}, "column image of .* has no class names"),
    ):
        with pytest.raises(ValueError, match=message):
            hugging_face(tmp_path / "parquet", **{**COLUMNS, **change})
    stored = tmp_path / "stored/train/data-00000-of-00001.arrow"
    for path in (tmp_path / "parquet/train-00000-of-00001.parquet", stored):
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=r"cannot be read \(.*\); where a file is damaged, download it again"):
            hugging_face(path.parent if path != stored else tmp_path / "stored", **COLUMNS)


def test_an_incomplete_copy_is_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))  # asked for later
    (tmp_path / "data").mkdir()
    for number in (0, 2, 3):
        (tmp_path / f"data/train-{number:05}-of-00004-0a1b.parquet").touch()
    with pytest.raises(ValueError, match="data lacks 1 of 4 files of train, such as train-00001-of-00004.parquet"):
        hugging_face(tmp_path, **COLUMNS)

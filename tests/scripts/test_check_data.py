"""scripts/check_data.py as a user runs it, on photographs with some damage."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from scripts.benchmarks.photographs import write_photographs
from tests import processes


def check(root: Path, *options: str, status: int) -> str:
    done = processes.run("scripts/check_data.py", f"root={root}", "num_workers=0", *options, status=status)
    return done.stdout if status < 2 else done.stderr


@pytest.mark.slow
def test_damage_and_duplicates_are_found(tmp_path: Path) -> None:
    write_photographs(tmp_path, 18, 12, (64, 48))
    assert "train: 18 images, 3 to 3 in each of 6 classes" in check(tmp_path, status=0)
    folder = tmp_path / "train/china"
    first, second, third = sorted(folder.glob("*.jpg"))
    first.write_bytes(first.read_bytes()[:-200])
    shutil.copy(second, tmp_path / "train/coffee/again.jpg")
    shutil.copy(third, tmp_path / "val/china/leaked.jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(second).resize((100, 20)).save(folder / "turned.jpg", exif=exif)
    with_tags = Image.open(second)
    with_tags.save(tmp_path / "val/china/broken_tags.png", exif=b"Exif\0\0no tags")
    report = json.loads(check(tmp_path, "format=json", status=1))
    assert list(report["train"]["unreadable"]) == [str(first)]
    assert "truncated" in report["train"]["unreadable"][str(first)]
    assert report["train"]["duplicates"] == [[str(second), str(tmp_path / "train/coffee/again.jpg")]]
    assert report["in_train_and_test"] == [[str(third), str(tmp_path / "val/china/leaked.jpg")]]
    assert report["train"]["images_of_class"]["china"] == 4
    assert report["train"]["height"] == {"min": 20, "median": 48, "max": 48}
    assert report["train"]["turned_by_tag"] == 1
    assert f"{first}: " in check(tmp_path, status=1)

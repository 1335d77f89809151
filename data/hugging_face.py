"""Image data sets as Hugging Face's library `datasets` stores them: parquet files or its own folders."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from data.absent import HUGGING_FACE
from data.images import ImageSets

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(?:-\w+)?\.parquet")  # the hub's names


def hugging_face(root: Path, *, image: str, label: str, test: str) -> ImageSets:
    """The splits `train` and `test` of the data set in the folder `root`, from its columns `image` and `label`.

    `root` is a copy of a repository of the hub, or what save_to_disk wrote. Rows are read by number, so that
    a run resumes exactly. ValueError where the library, a split, a column or the names of the classes are missing.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("data sets of Hugging Face are read by its library: pip install datasets") from error
    HUGGING_FACE.require(root)
    _require_all_shards(root)
    stored = (root / "dataset_dict.json").is_file()
    try:
        splits: Any = datasets.load_from_disk(str(root)) if stored else datasets.load_dataset(str(root))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:  # which name no file
        reason = error.__cause__ or error
        raise ValueError(f"{root} cannot be read ({reason}); where a file is damaged, download it again") from error
    for split in ("train", test):
        if split not in splits:
            raise ValueError(
                f"{root} has no split {split}; it has {', '.join(splits)} (data.load.test names the test's)"
            )
    features = splits["train"].features
    for column in (image, label):
        if column not in features:
            raise ValueError(f"{root} has no column {column}; it has {', '.join(features)} (data.load.image and label)")
    if not isinstance(features[label], datasets.ClassLabel):
        raise ValueError(f"column {label} of {root} has no class names (ClassLabel); choose another as data.load.label")
    undecoded = {split: splits[split].cast_column(image, datasets.Image(decode=False)) for split in ("train", test)}
    train, held_out = (Rows(f"{root}, {split}", rows, image, label) for split, rows in undecoded.items())
    return ImageSets(features[label].names, train, held_out)


def _require_all_shards(root: Path) -> None:
    """ValueError where of parquet files numbered as 00000-of-00003 one is missing: the library reads the rest."""
    found: dict[tuple[Path, str, int], set[int]] = {}
    for path in root.rglob("*.parquet"):
        numbered = SHARD.fullmatch(path.name)
        if numbered:
            name, number, total = numbered.groups()
            found.setdefault((path.parent, name, int(total)), set()).add(int(number))
    for (folder, name, total), numbers in found.items():
        missing = sorted(set(range(total)) - numbers)
        if missing:
            raise ValueError(
                f"{folder} lacks {len(missing)} of {total} files of {name}, such as "
                f"{name}-{missing[0]:05}-of-{total:05}.parquet; download the data set again"
            )


class Rows:
    """The images of one split."""

    def __init__(self, place: str, rows: Any, image: str, label: str) -> None:
        self.place, self.rows, self.image = place, rows, image
        self.labels = np.array(rows[label][:], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.place}, row {index}"

    def read(self, index: int) -> bytes:
        found = self.rows[index][self.image]
        return found["bytes"] if found["bytes"] is not None else Path(found["path"]).read_bytes()

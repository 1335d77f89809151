"""Image data sets as Hugging Face's library `datasets` stores them: parquet files or its own folders."""

from pathlib import Path
from typing import Any

import numpy as np

from data.images import ImageSets
from data.root import no_folder


def hugging_face(root: Path, *, image: str, label: str, test: str) -> ImageSets:
    """The splits `train` and `test` of the data set in the folder `root`, from its columns `image` and `label`.

    `root` is a copy of a repository of the hub, or what save_to_disk wrote. Rows are read by number, so that
    a run resumes exactly. ValueError where the library, a split, a column or the names of the classes are missing.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("data sets of Hugging Face are read by its library: pip install datasets") from error
    if not root.is_dir():
        raise ValueError(
            f"{no_folder(root)}; set data.root to a copy of the data set: hf download <name> --local-dir <folder>"
        )
    stored = (root / "dataset_dict.json").is_file()
    splits: Any = datasets.load_from_disk(str(root)) if stored else datasets.load_dataset(str(root))
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

"""Pack image folders into tar shards: python scripts/make_shards.py root=<folder> out=<folder>."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import json
import tarfile
import zlib
from collections.abc import Sequence
from io import BytesIO

from omegaconf import DictConfig

from conf.launch import launch

if TYPE_CHECKING:
    from data.images import Images, ImageSets
    from data.shards import Index


def main(config: DictConfig) -> None:
    """Write the shards that are not there yet, then the description of all: stopped, it goes on where it was."""
    from filelock import FileLock, Timeout

    from data.folder import image_folder
    from data.shards import INDEX

    if config.images_per_shard < 1:
        raise ValueError(f"images_per_shard={config.images_per_shard}: must be at least 1; 10000 is usual")
    out = Path(config.out).expanduser()
    sets = image_folder(Path(config.root).expanduser())
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            pack(sets, out, config.images_per_shard)
    except Timeout as error:
        raise ValueError(f"another make_shards.py is writing to {out}; wait for it, or choose another out") from error
    print(f"{out / INDEX}: {len(sets.train):,} training and {len(sets.test):,} test images")


def pack(sets: "ImageSets", out: Path, images_per_shard: int) -> None:
    """Write what is missing of the shards of `sets` in `out`."""
    from tqdm import tqdm

    from data.shards import INDEX

    _refuse_other(out, sets, images_per_shard)
    names: dict[str, list[str]] = {}
    for part, images in (("train", sets.train), ("val", sets.test)):
        shards = shuffled(len(images), images_per_shard)
        names[part] = [f"{part}-{number:06}.tar" for number in range(len(shards))]
        for name, numbers in zip(tqdm(names[part], part, unit="shard", disable=None), shards, strict=True):
            if not (out / name).with_suffix(".npz").is_file():
                write_shard(out / name, images, numbers)
    described = {"classes": list(sets.classes), "shards": names}
    (out / f".{INDEX}").write_text(json.dumps(described, indent=1) + "\n")
    (out / f".{INDEX}").replace(out / INDEX)


def shuffled(num_images: int, images_per_shard: int) -> list[list[int]]:
    """The images of each shard: mixed once, for readers that take a shard from its start; the same in each run."""
    import torch

    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(0))
    return [shard.tolist() for shard in order.split(images_per_shard)]


def write_shard(path: Path, images: "Images", numbers: Sequence[int]) -> None:
    """Write a tar file and its index, which is the sign that the tar file is complete."""
    partial = path.with_suffix(".tar.partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        index = _fill(tar, images, numbers)
    partial.replace(path)
    index.save(path)


def _fill(tar: tarfile.TarFile, images: "Images", numbers: Sequence[int]) -> "Index":
    """Two members an image, as webdataset expects: <number>.<suffix> and its label as text, <number>.cls."""
    import numpy as np

    from data.shards import Index

    rows = []
    for number in numbers:
        data, label = images.read(number), int(images.labels[number])
        offset = _add(tar, f"{number:09}{Path(images.name(number)).suffix.lower()}", data)
        _add(tar, f"{number:09}.cls", str(label).encode())
        rows.append((offset, len(data), zlib.crc32(data), label))
    return Index(*np.array(rows, dtype=np.int64).T)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a file; the byte at which its contents begin."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))
    return tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _refuse_other(out: Path, sets: "ImageSets", images_per_shard: int) -> None:
    """Keep in `out` what the shards are made of; ValueError where some were made of something else."""
    made = {"classes": list(sets.classes), "train": len(sets.train), "val": len(sets.test)}
    made["images_per_shard"] = images_per_shard
    path = out / "made_from.json"
    if path.is_file() and json.loads(path.read_text()) != made:
        raise ValueError(f"{out} holds shards of other images or of another images_per_shard; choose another out")
    path.write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    launch(main, "make_shards")

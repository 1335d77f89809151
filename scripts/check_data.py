"""Inspect a data set of image files: python scripts/check_data.py root=<folder> (image folders or shards)."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import json
import os

from omegaconf import DictConfig

from conf.launch import launch
from conf.schema import Format

if TYPE_CHECKING:
    from data.images import ImageSets

SHOWN = 20  # lines of each kind


def main(config: DictConfig) -> None:
    """Decode every image and report; exit with status 1 where images are unreadable or test images are trained on."""
    from data.inspection import shared

    sets = find(Path(config.root).expanduser())
    num_workers = len(os.sched_getaffinity(0)) if config.num_workers is None else config.num_workers
    parts = {part: _inspect(part, sets, num_workers) for part in ("train", "test")}
    report: dict[str, Any] = {part: inspection.report() for part, inspection in parts.items()}
    report["in_train_and_test"] = shared(parts["train"], parts["test"])
    print(json.dumps(report, indent=1) if config.format == Format.json else text(report))
    if report["in_train_and_test"] or any(report[part]["unreadable"] for part in parts):
        sys.exit(1)


def find(root: Path) -> "ImageSets":
    """The images under `root`: of shards where their index is there, else of folders."""
    from data.folder import image_folder
    from data.shards import INDEX, shards

    return shards(root) if (root / INDEX).is_file() else image_folder(root)


def _inspect(part: str, sets: "ImageSets", num_workers: int):
    from tqdm import tqdm

    from data.inspection import inspect

    images = sets.train if part == "train" else sets.test
    return inspect(
        images, sets.classes, num_workers, lambda batches, total: tqdm(batches, part, total, unit="batch", disable=None)
    )


def text(report: dict[str, Any]) -> str:
    """The report for people; long lists are cut."""
    lines = []
    for part in ("train", "test"):
        found = report[part]
        counts = found["images_of_class"].values()
        lines.append(
            f"{part}: {found['images']:,} images, {min(counts)} to {max(counts)} in each of {len(counts)} classes"
        )
        for side in ("height", "width"):
            if found[side]:
                lines.append("  {} {min} to {max} pixels, median {median:g}".format(side, **found[side]))
        lines.append(f"  {found['turned_by_tag']:,} with an orientation tag (which is ignored)")
        lines += _listed("unreadable", [f"{name}: {problem}" for name, problem in found["unreadable"].items()])
        lines += _listed("groups of the same file", [", ".join(group) for group in found["duplicates"]])
    lines += _listed("test images that are trained on", [" = ".join(pair) for pair in report["in_train_and_test"]])
    return "\n".join(lines)


def _listed(title: str, found: list[str]) -> list[str]:
    more = [f"    ... and {len(found) - SHOWN:,} more (format=json lists all)"] if len(found) > SHOWN else []
    return [f"  {title}: {len(found):,}", *(f"    {line}" for line in found[:SHOWN]), *more]


if __name__ == "__main__":
    launch(main, "check_data")

"""Explain what is wrong with a tree of image folders."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.absent import IMAGE_FOLDER

EXPECTED = "root/train/<class>/<image>.jpg and root/val/<class>/<image>.jpg"
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")


def check_root(root: Path) -> None:
    """FileNotFoundError where there is no `root`, ValueError where it lacks train or val; both say what is expected."""
    IMAGE_FOLDER.require(root)
    missing = [name for name in ("train", "val") if not (root / name).is_dir()]
    if missing:
        raise ValueError(
            f"{root} has no folder {' and no folder '.join(missing)}; expected {EXPECTED}. {_instead(root)}"
        )


def check_folder(folder: Path, classes: Sequence[str], loose: Sequence[str]) -> None:
    """ValueError where images lie in `folder` itself, or where nothing does."""
    if loose:
        raise ValueError(
            f"{folder} holds {len(loose):,} images outside any class folder, such as {loose[0]}: their classes are "
            f"unknown; expected {EXPECTED}. ImageNet's validation images come this way: move each into the folder of "
            "its class, which the devkit (ILSVRC2012_validation_ground_truth.txt) or Kaggle's LOC_val_solution.csv name"
        )
    if not classes:
        raise ValueError(f"{folder} is empty; expected {EXPECTED}")


def check_classes(root: Path, train: Sequence[str], val: Sequence[str]) -> None:
    """ValueError where the classes of training and test differ: every label after the first would be wrong."""
    for part, names in (("train", train), ("val", val)):
        _check_forms(root / part, names)
    lost, new = [sorted(set(a) - set(b)) for a, b in ((train, val), (val, train))]
    if lost or new:
        parts = [f"{root / 'val'} lacks {_some(lost)}"] if lost else []
        parts += [f"{root / 'train'} lacks {_some(new)}"] if new else []
        hidden = _hidden(root / "val", lost) or _hidden(root / "train", new)
        advice = explain_likeness(lost, new, ("train", "val")) or hidden or "Both must have the same folders"
        raise ValueError(f"the classes of train and val differ: {'; '.join(parts)}. {advice}")


def _check_forms(folder: Path, names: Sequence[str]) -> None:
    forms = Counter(unicodedata.normalize("NFC", name) for name in names)
    twice = [name for name, count in forms.items() if count > 1]
    if twice:
        raise ValueError(
            f"{folder} has the class {twice[0]} twice, in two Unicode forms that look the same (composed, NFC, and "
            "decomposed, NFD); put their images into one folder"
        )


def explain_likeness(names: Sequence[str], others: Sequence[str], places: tuple[str, str]) -> str:
    """How the first of `names` that is nearly, but not quite, one of `others` differs from that; "" where none is."""
    near = {_plain(other): other for other in set(others) - set(names)}
    for name in sorted(set(names) - set(others)):
        other = near.get(_plain(name))
        if other is not None:
            one, two = (f"{text!a} in {place}" for text, place in zip((name, other), places, strict=True))
            return f"{one} and {two} differ only in {_difference(name, other)}: rename one to the other"
    return ""


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _difference(name: str, other: str) -> str:
    one, two = (unicodedata.normalize("NFC", text) for text in (name, other))
    if one == two:
        return "their Unicode form (one composed, NFC, one decomposed, NFD; they look the same)"
    return "spaces at an end" if one.strip() == two.strip() else "capital letters"


def _hidden(folder: Path, classes: Sequence[str]) -> str:
    found = [name for name in classes if (folder / f".{name}").is_dir()]
    return f"{folder / f'.{found[0]}'} is hidden, and so left out: rename it" if found else ""


def check_class(folder: Path, num_images: int, skipped: Mapping[str, int]) -> None:
    """ValueError where a class has no images."""
    if not num_images:
        other = f" (files of other kinds so far: {', '.join(skipped)})" if skipped else ""
        raise ValueError(f"{folder} holds no images{other}; fill it, or remove the class from train and val")


def _instead(root: Path) -> str:
    archives = [name for name in ARCHIVES if (root / name).exists()]
    if archives:
        return (
            f"There are ImageNet's archives ({', '.join(archives)}): unpack the training archive and the one it "
            "holds for each class into train/<class>, the validation images into val/<class>; the devkit is not read"
        )
    for inner in (root / "ILSVRC/Data/CLS-LOC", root / "Data/CLS-LOC", root / "imagenet", root / "ILSVRC2012"):
        if (inner / "train").is_dir():
            return f"Did you mean data.root={inner}?"
    found = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    return f"It holds {_some(found)}" if found else "It is empty"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more

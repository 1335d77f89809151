"""Stop before anything heavy is imported where the data set of a run is not on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Expected:
    """The folders that must be in data.root ("": the root itself), how it looks with them, and how they come there."""

    folders: tuple[str, ...]
    tree: str
    commands: str


def _cifar(folder: str, files: str) -> Expected:
    """data/cifar.py reads other forms too, and downloads into a root that exists."""
    link = f"mkdir -p {{root}} && ln -s /path/to/{folder} {{root}}/"
    fetch = "mkdir -p {root} and the same command again"
    return Expected(("",), f"  {folder}/\n    {files}", f"link it: {link}\nor download it (170 MB): {fetch}")


KNOWN = {  # by what loads it; other data sets ship with a package or say themselves what they need
    "data.cifar.cifar10": _cifar("cifar-10-batches-py", "data_batch_1 ... data_batch_5  test_batch  batches.meta"),
    "data.cifar.cifar100": _cifar("cifar-100-python", "train  test  meta"),
    "data.folder.image_folder": Expected(
        ("train", "val"),
        "  train/\n    <class>/  (ImageNet: n01440764 and 999 more)\n  val/\n    <the same classes>/",
        "link it: mkdir -p {root} && ln -s /path/to/train /path/to/val {root}/\n"
        "(ImageNet: https://image-net.org gives access)",
    ),
}


def require(data: dict[str, Any]) -> None:
    """FileNotFoundError with the expected folders and a command where the data set of a configuration is absent."""
    expected = KNOWN.get(data["load"]["_target_"]) if "load" in data else None
    if expected is None:
        return
    root = Path(data["root"]).expanduser()
    missing = [str(root / folder) for folder in expected.folders if not (root / folder).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"no {' and no '.join(missing)}; expected in data.root (by default the environment variable DATA_ROOT):\n"
            f"{root}/\n{expected.tree}\n{expected.commands.format(root=root)}"
        )

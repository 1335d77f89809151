"""Stop before anything heavy is imported where the folder of a run's data set is not on this machine.

What is wrong in a folder that exists, its reader explains (data/layout.py, data/cifar.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Expected:
    """How data.root looks, and the commands that bring that about; `instead`: a folder that serves as well."""

    tree: str
    commands: str
    instead: Path | None = None


def _cifar(folder: str, files: str) -> Expected:
    link = f"mkdir -p {{root}} && ln -s /path/to/{folder} {{root}}/"
    return Expected(
        f"  {folder}/\n    {files}",
        f"link it: {link}\nor have it downloaded (170 MB): mkdir -p {{root}}, and the same command again",
    )


KNOWN = {  # by what loads it; other data sets ship with a package or say themselves what they need
    "data.cifar.cifar10": _cifar("cifar-10-batches-py", "data_batch_1 ... data_batch_5  test_batch  batches.meta"),
    "data.cifar.cifar100": _cifar("cifar-100-python", "train  test  meta"),
    "data.fashion_mnist.fashion_mnist": Expected(
        "  FashionMNIST/raw/\n    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  (and t10k- twice)",
        "install Debian's package: apt-get install dataset-fashion-mnist\n"
        "or have it downloaded (30 MB): mkdir -p {root}, and the same command again",
        Path("/usr/share/datasets/fashion-mnist"),
    ),
    "data.folder.image_folder": Expected(
        "  train/\n    <class>/  (ImageNet: n01440764 and 999 more)\n  val/\n    <the same classes>/",
        "link it: mkdir -p {root} && ln -s /path/to/train /path/to/val {root}/\n"
        "(ImageNet: https://image-net.org gives access)",
    ),
}


def require(data: dict[str, Any]) -> None:
    """FileNotFoundError with the expected folders and the commands where the data set of a configuration is absent."""
    expected = KNOWN.get(data["load"]["_target_"]) if "load" in data else None
    if expected is None:
        return
    root = Path(data["root"]).expanduser()
    if not root.is_dir() and not (expected.instead and expected.instead.is_dir()):
        problem = f"{root} is a file, not a folder" if root.is_file() else f"no folder {root}"
        raise FileNotFoundError(
            f"{problem}; expected in data.root (by default the environment variable DATA_ROOT):\n"
            f"{root}/\n{expected.tree}\n{expected.commands.format(root=root)}"
        )

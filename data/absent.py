"""What a data set that is not there should look like, and the commands that bring it there.

train.py asks before it imports anything heavy, the readers ask again: this file needs the standard library alone.
What is wrong inside a folder that exists, its reader explains (data/layout.py, data/cifar.py, data/shards.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Expected:
    """How the folder `root` of a data set looks, and the commands that make it so; both may name {root}.

    `instead` is a folder outside `root` that serves as well.
    """

    tree: str
    commands: str
    instead: Path | None = None

    def require(self, root: Path) -> None:
        """FileNotFoundError with the tree and the commands where there is no folder `root`."""
        if root.is_dir():
            return
        problem = f"{root} is a file, not a folder" if root.is_file() else f"no folder {root}"
        raise FileNotFoundError(
            f"{problem}; expected in data.root (by default the environment variable DATA_ROOT):\n"
            f"{root}/\n{self.tree}\n{self.commands.format(root=root)}"
        )


def _cifar(folder: str, files: str, others: str) -> Expected:
    link = f"mkdir -p {{root}} && ln -s /path/to/{folder} {{root}}/"
    return Expected(
        f"  {folder}/\n    {files}\n  (or {others})",
        f"link it: {link}\nor have it downloaded (170 MB): mkdir -p {{root}}, and the same command again",
    )


CIFAR10 = _cifar(
    "cifar-10-batches-py",
    "data_batch_1 ... data_batch_5  test_batch  batches.meta",
    "cifar-10-python.tar.gz, or parquet files in cifar10/",
)
CIFAR100 = _cifar("cifar-100-python", "train  test  meta", "cifar-100-python.tar.gz, or parquet files in cifar100/")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
FASHION_MNIST = Expected(
    "  FashionMNIST/raw/\n    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  (and t10k- twice)",
    "install Debian's package: apt-get install dataset-fashion-mnist\n"
    "or have it downloaded (30 MB): mkdir -p {root}, and the same command again",
    DEBIAN_FASHION_MNIST,
)
IMAGE_FOLDER = Expected(
    "  train/\n    <class>/  (ImageNet: n01440764 and 999 more)\n  val/  (the test images)\n    <the same classes>/",
    "link it: mkdir -p {root} && ln -s /path/to/train /path/to/val {root}/\n"
    "(ImageNet: https://image-net.org gives access)",
)
SHARDS = Expected(
    "  shards.json\n  train-000000.tar  train-000000.npz ...\n  val-000000.tar  val-000000.npz ...",
    "make it from a folder of images: python scripts/make_shards.py root=/path/to/images out={root}",
)
HUGGING_FACE = Expected(
    "  data/\n    train-00000-of-00294.parquet ...  (or what save_to_disk wrote)",
    "download it: hf download ILSVRC/imagenet-1k --repo-type dataset --local-dir {root}",
)
BY_LOADER = {  # any other data set ships with a package
    "data.cifar.cifar10": CIFAR10,
    "data.cifar.cifar100": CIFAR100,
    "data.fashion_mnist.fashion_mnist": FASHION_MNIST,
    "data.folder.image_folder": IMAGE_FOLDER,
    "data.hugging_face.hugging_face": HUGGING_FACE,
    "data.shards.shards": SHARDS,
}


def require(data: dict[str, Any]) -> None:
    """FileNotFoundError where the data set of a plain configuration `data` is not on this machine."""
    expected = BY_LOADER.get(data["load"]["_target_"]) if "load" in data else None
    if expected and not (expected.instead and expected.instead.is_dir()):
        expected.require(Path(data["root"]).expanduser())

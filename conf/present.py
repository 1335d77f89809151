"""Stop before anything heavy is imported where the data set of a run is not on this machine."""

from pathlib import Path
from typing import Any

CIFAR = """{root}/
  {folder}/
    {files}"""
FETCH = "mkdir -p {root} && curl -L https://www.cs.toronto.edu/~kriz/{archive} | tar -xz -C {root}"
LINK = "mkdir -p {root} && ln -s /path/to/{folder} {root}/{folder}"
IMAGENET = """{root}/
  train/
    n01440764/  *.JPEG
    ... (1000 folders, one a class)
  val/
    n01440764/  *.JPEG
    ... (the same 1000 folders)"""
# By what loads a data set: what must be there, how it looks, and how it comes there.
KNOWN = {
    "data.cifar.cifar10": (
        {"folder": "cifar-10-batches-py", "archive": "cifar-10-python.tar.gz"}
        | {"files": "data_batch_1 ... data_batch_5, test_batch, batches.meta"},
        ("cifar-10-batches-py",),
        CIFAR,
        (f"fetch it (170 MB): {FETCH}", f"or link it: {LINK}"),
    ),
    "data.cifar.cifar100": (
        {"folder": "cifar-100-python", "archive": "cifar-100-python.tar.gz", "files": "train, test, meta"},
        ("cifar-100-python",),
        CIFAR,
        (f"fetch it (170 MB): {FETCH}", f"or link it: {LINK}"),
    ),
    "data.folder.image_folder": (
        {},
        ("train", "val"),
        IMAGENET,
        ("link it: mkdir -p {root.parent} && ln -s /path/to/imagenet {root}", "(https://image-net.org gives access)"),
    ),
}


def require(data: dict[str, Any]) -> None:
    """FileNotFoundError with the expected folders and a command where the data set of a configuration is absent."""
    load = data.get("load", {}).get("_target_")
    if load not in KNOWN:  # ships with a package, or says itself what it needs
        return
    words, needed, tree, commands = KNOWN[load]
    root = Path(data["root"]).expanduser()
    missing = [str(root / name) for name in needed if not (root / name).is_dir()]
    if missing:
        lines = [f"no {' and no '.join(missing)}; expected (data.root, or the environment variable DATA_ROOT):"]
        lines += [part.format(root=root, **words) for part in (tree, *commands)]
        raise FileNotFoundError("\n".join(lines))

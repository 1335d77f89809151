"""The folder that data sets live in."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def download(read: Callable[[], T], root: Path, name: str, layout: str, size: str) -> T:
    """What `read` returns, which may download the data set `name` of `size` into `root`.

    Raises FileNotFoundError before that where `root` does not exist (it may be misspelt), OSError where the
    download fails; both messages say which files, `layout`, are expected.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root} to read {name} from. Set data.root (or the environment variable DATA_ROOT) to the "
            f"folder that holds {layout}, or make it (mkdir -p {root}) and run again to download into it ({size})"
        )
    try:
        return read()
    except (OSError, RuntimeError) as error:  # torchvision raises both
        raise OSError(f"{name} is not in {root} and could not be downloaded ({error}); put {layout} there") from error

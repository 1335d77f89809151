"""The folder that data sets live in."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """One process at a time inside, of all that make the data set `name` in `root`; the others wait."""
    lock = FileLock(root / f".{name}.lock")  # of the system: it ends with the process, however that ends
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(f"another process is making {name} in {root}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def download(fetch: Callable[[], None], root: Path, name: str, layout: str, size: str) -> None:
    """Have `fetch` download what is missing of the data set `name`, of `size`, into `root`; in one process at a time.

    Raises FileNotFoundError before that where `root` does not exist (it may be misspelt), OSError where the
    download fails; both messages say which files, `layout`, are expected.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{no_folder(root)} to read {name} from. Set data.root (or the environment variable DATA_ROOT) to the "
            f"folder that holds {layout}, or make it (mkdir -p {root}) and run again to download into it ({size})"
        )
    try:
        with alone(root, name):
            fetch()
    except (OSError, RuntimeError) as error:  # torchvision raises both
        raise OSError(f"{name} is not in {root} and could not be downloaded ({error}); put {layout} there") from error


def no_folder(root: Path) -> str:
    """What is wrong with a `root` that is no folder."""
    return f"{root} is a file, not a folder" if root.is_file() else f"no folder {root}"

"""Download a data set, in one process at a time."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data.absent import Expected

log = logging.getLogger(__name__)


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """Inside is one process at a time of all those that make the data set `name` in `root`; the others wait."""
    lock = FileLock(root / f".{name}.lock")  # the system drops it when the process ends, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(f"another process is making {name} in {root}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def download(fetch: Callable[[], None], root: Path, name: str, expected: Expected) -> None:
    """Have `fetch` download what is missing of the data set `name` into `root`, in one process at a time.

    Raises FileNotFoundError before that where `root` does not exist (it may be misspelt), OSError where the
    download fails; both messages say what is `expected`.
    """
    expected.require(root)
    try:
        with alone(root, name):
            fetch()
    except (OSError, RuntimeError) as error:  # torchvision raises both
        raise OSError(
            f"{name} is not in {root} and could not be downloaded ({error}); put it there:\n{root}/\n{expected.tree}"
        ) from error

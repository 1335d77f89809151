"""Images that cannot be read: replaced by others, but never silently."""

import logging
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from data.decode import BadImageError

log = logging.getLogger(__name__)
FILE = "bad_images.txt"


class BadImages:
    """Lists the bad images of one `part` of a data set in `folder`/bad_images.txt, once over processes and restarts.

    Raises BadImageError when they are more than the share `allowed` of the part's `num_images`.
    """

    def __init__(self, folder: Path, part: str, num_images: int, allowed: float) -> None:
        self.path, self.part = folder / FILE, part
        self.num_images, self.allowed = num_images, allowed
        self.known: set[str] = set()

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Note images by name, each with the reason."""
        found = [(name, reason) for name, reason in found if name not in self.known]
        if not found:
            return
        with FileLock(self.path.with_name(f".{FILE}.lock"), poll_interval=0.01):
            self.known = self._listed()
            for name, reason in found:
                if name not in self.known:
                    log.warning(f"cannot read {name} ({reason}); see {self.path}")
                    with self.path.open("a") as file:
                        file.write(f"{name}\t{' '.join(reason.split())}\t{self.part}\n")
                    self.known.add(name)
        self._check()

    def _listed(self) -> set[str]:
        """The names of this part's images in the file, which other processes write too."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        return {line.partition("\t")[0] for line in lines if line.endswith(f"\t{self.part}")}

    def _check(self) -> None:
        if len(self.known) > self.allowed * self.num_images:
            raise BadImageError(
                f"{len(self.known)} of {self.num_images:,} {self.part} images cannot be read, more than data.bad_share="
                f"{self.allowed} allows; they are listed in {self.path}. Repair or remove them, then remove the list; "
                "or raise data.bad_share"
            )

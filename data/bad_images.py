"""Images that cannot be read: replaced by others, but never silently."""

import logging
from collections.abc import Iterable
from pathlib import Path

from data.decode import BadImageError

log = logging.getLogger(__name__)
FILE = "bad_images.txt"


class BadImages:
    """Lists images in `folder`/bad_images.txt, once each over all processes and restarts.

    Raises BadImageError when they are more than the share `allowed` of `num_images`.
    """

    def __init__(self, folder: Path, num_images: int, allowed: float) -> None:
        self.path, self.num_images, self.allowed = folder / FILE, num_images, allowed
        self.known: set[str] = set()

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Note images by name, each with the reason."""
        found = [(name, reason) for name, reason in found if name not in self.known]
        if not found:
            return
        if self.path.is_file():
            self.known = {line.partition("\t")[0] for line in self.path.read_text().splitlines()}
        for name, reason in found:
            if name not in self.known:
                log.warning(f"cannot read {name} ({reason}); see {self.path}")
                with self.path.open("a") as file:
                    file.write(f"{name}\t{' '.join(reason.split())}\n")
                self.known.add(name)
        self._check()

    def _check(self) -> None:
        if len(self.known) > self.allowed * self.num_images:
            raise BadImageError(
                f"{len(self.known)} of {self.num_images:,} images cannot be read, more than data.bad_share="
                f"{self.allowed} allows; they are listed in {self.path}. Repair or remove them, or raise data.bad_share"
            )

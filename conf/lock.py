"""One process at a time trains in a run directory: a lock with owner, host and heartbeat."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import LeaseCompromise, SoftFileLease, Timeout
from filelock._identity import owner_is_stale

log = logging.getLogger(__name__)
LOCK = ".lock"
# Seconds without a heartbeat after which an owner on another machine counts as dead. Longer than the minute for which
# NFS may show an old time of a file.
LEASE = 120.0
HEARTBEAT = 20.0


class RunningElsewhereError(OSError):
    """Another process trains in the run directory."""


def owner(run_dir: Path) -> str | None:
    """`process 123 on host` where one trains in `run_dir` now, else None.

    A process of this machine that is gone owns nothing, nor does one of another machine without a heartbeat.
    """
    path = run_dir / LOCK
    record = _lease(path).owner
    # Only looked at: to try the lock would be to hold it for a moment, in which its next owner might come. Whether an
    # owner is gone, filelock says in a private function alone (the same from 3.30 to 4.2).
    if record is None or owner_is_stale(record.pid, record.hostname, record.start) or _silence(path) >= LEASE:
        return None
    return f"process {record.pid} on {record.hostname}"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Own `run_dir`, which must be there; RunningElsewhereError where another process does."""
    if who := owner(run_dir):
        raise RunningElsewhereError(f"{run_dir} is being trained by {who}; wait for it, or end it")
    lease = _lease(run_dir / LOCK)
    try:
        lease.acquire(blocking=False)
    except Timeout:  # left by another machine: that it is silent has to be seen
        log.info(f"waiting {LEASE:.0f} seconds: {run_dir / LOCK} is of another machine, which is silent")
        try:
            lease.acquire(timeout=2 * LEASE)
        except Timeout:
            raise RunningElsewhereError(f"{run_dir} is being trained by another process; wait for it") from None
    try:
        yield
    finally:
        lease.release()


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """One process after the other, each for a moment."""
    with SoftFileLease(folder / ".turn", lease_duration=LEASE, heartbeat_interval=HEARTBEAT):
        yield


def _lease(path: Path) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=HEARTBEAT, on_compromise=_end_now)


def _end_now(loss: LeaseCompromise) -> None:
    """After a long sleep another process may have taken over; what it writes must not be written over."""
    log.error(f"error: the lock {loss.lock_file} was lost ({loss.reason}); the same command goes on")
    os._exit(1)


def _silence(path: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the file system, whatever the clocks of the machines say."""
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=".now") as now:
            return os.stat(now.name).st_mtime - path.stat().st_mtime
    except FileNotFoundError:  # it was released just now
        return float("inf")

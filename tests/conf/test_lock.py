"""The lock of a run directory: real processes that hold it, die with it, or fall silent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conf import lock
from tests.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from conf.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """One that holds the lock of `directory`."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def test_a_directory_is_owned_by_one_process_and_free_once_that_is_dead(tmp_path: Path) -> None:
    assert lock.owner(tmp_path) is None
    with another_process(tmp_path) as holder:
        assert (lock.owner(tmp_path) or "").startswith(f"process {holder.pid} on ")
        with pytest.raises(OSError, match=f"is being trained by process {holder.pid} on"), lock.locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / lock.LOCK).exists()
        assert lock.owner(tmp_path) is None
        with lock.locked(tmp_path):
            assert (lock.owner(tmp_path) or "").startswith(f"process {os.getpid()} on ")
    assert not any(tmp_path.iterdir())


def of_another_machine(directory: Path, silence: float) -> None:
    """A lock as another machine writes it, last refreshed `silence` seconds ago."""
    with lock.locked(directory):
        marker = (directory / lock.LOCK).read_text()
    host = next(line for line in marker.splitlines() if line.startswith("host="))
    path = directory / lock.LOCK
    path.write_text(marker.replace(host, "host=another-machine"))
    os.utime(path, (time.time() - silence,) * 2)


def test_another_machine_owns_a_directory_as_long_as_it_is_heard_of(tmp_path: Path) -> None:
    of_another_machine(tmp_path, silence=10)
    assert (lock.owner(tmp_path) or "").endswith(" on another-machine")
    with pytest.raises(lock.RunningElsewhereError, match="on another-machine"), lock.locked(tmp_path):
        pass


@pytest.mark.slow
def test_the_lock_of_a_silent_machine_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE", 1.5)  # seconds
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    of_another_machine(tmp_path, silence=1000)
    assert lock.owner(tmp_path) is None
    start = time.monotonic()
    with lock.locked(tmp_path):
        assert time.monotonic() - start > 1.4  # its silence was seen, not believed
        time.sleep(2)
        assert lock.owner(tmp_path)  # the heartbeat keeps it

"""Files are written whole or not at all, whatever happens in between: real kills, a real limit of a file's size."""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.run_directory import file_to_write, write_whole

SIZE = 1 << 20


def write_for_ever(path: Path, before: Path) -> None:
    number = 0
    while True:
        write_whole(path, bytes([number % 256]) * SIZE, before)
        number += 1


def test_whenever_the_writer_is_killed_both_files_are_whole(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    for trial in range(20):
        writer = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path, before))
        writer.start()
        deadline = time.monotonic() + 60
        while not before.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.001 * trial)
        writer.kill()
        writer.join()
        for file in (path, before):
            content = file.read_bytes()
            assert len(content) == SIZE
            assert set(content) == {content[0]}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What the system then says is another error than that of a full disk, at the same place."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    write_whole(path, "first", before)
    assert not before.exists()
    write_whole(path, "second", before)
    with files_of_at_most(100), pytest.raises(OSError, match="File too large"):
        write_whole(path, "x" * 1000, before)
    assert (path.read_text(), before.read_text()) == ("second", "first")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_the_folder_of_a_file_to_write_is_made(tmp_path: Path) -> None:
    out = tmp_path / "not" / "there" / "file"
    assert file_to_write(str(out)) == file_to_write(out) == out
    assert out.parent.is_dir()
    with pytest.raises(OSError, match=f"^out={tmp_path} is a folder; give the name of a file"):
        file_to_write(tmp_path)


def test_after_a_kill_between_the_two_names_it_goes_on(tmp_path: Path) -> None:
    """Both names are then one file."""
    path, before = tmp_path / "last", tmp_path / "previous"
    path.write_text("first")
    before.hardlink_to(path)
    write_whole(path, "second", before)
    assert (path.read_text(), before.read_text()) == ("second", "first")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_a_file_system_without_links_keeps_both_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, before = tmp_path / "last", tmp_path / "previous"
    for content in ("first", "second", "third"):
        write_whole(path, content, before)
    assert (path.read_text(), before.read_text()) == ("third", "second")

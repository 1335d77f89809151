"""How the native kernel is compiled and where it is kept, in real processes.

GEOMETRIES=2000 python -m pytest -n 0 tests/models/kernels/test_compilation.py    (a longer search)
"""

import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models.kernels import compilation, gated_conv, native, unit_native
from tests.models.kernels import test_gated_conv, test_unit
from tests.models.kernels.test_gated_conv import check, make

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
GEOMETRIES = int(os.environ.get("GEOMETRIES", "40"))  # random ones for each way of compiling
CASES = {native.gated_conv2d: test_gated_conv, unit_native.unit: test_unit}  # a kernel -> the tests of its contract


def compiler(folder: Path, *flags: str) -> str:
    """A compiler that adds flags after those that it is given, and counts its calls."""
    script = folder / "compiler"
    script.write_text(f'#!/bin/sh\necho called >> {folder}/calls\nexec {COMPILER} "$@" {" ".join(flags)}\n')
    script.chmod(0o755)
    return str(script)


def calls(folder: Path) -> int:
    """How often the compiler in `folder` was called."""
    return len((folder / "calls").read_text().splitlines())


@pytest.fixture
def quick(tmp_path_factory) -> str:
    """A compiler that does not optimise, for what does not depend on it."""
    return compiler(tmp_path_factory.mktemp("quick"), "-O0")


@pytest.fixture
def cache(tmp_path: Path, quick: str, monkeypatch) -> Iterator[Path]:
    """An empty folder for compiled files, in a process that has compiled nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", quick)
    for compiled in (native.library._loaded, unit_native.library._loaded):
        compiled.cache_clear()
    yield tmp_path / "cache" / "cheapconv"
    for compiled in (native.library._loaded, unit_native.library._loaded):
        compiled.cache_clear()


def agrees_everywhere(kernel: Callable[..., torch.Tensor], under: Callable = lambda kernel: kernel) -> None:
    assert native.library() is not None
    assert unit_native.library() is not None
    cases = CASES[kernel]
    for seed in range(GEOMETRIES):
        a, threads = cases.drawn(seed)
        cases.check(under(kernel), a, threads=threads)
    for sizes in cases.LARGE.values():
        cases.check(under(kernel), cases.make(**sizes))


def test_compiles_once(cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CC", compiler(tmp_path, "-O0"))
    for _ in range(3):
        assert native.library() is not None
        native.library._loaded.cache_clear()
    assert calls(tmp_path) == 1
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_two_processes_compile_at_once(cache: Path, tmp_path: Path, monkeypatch) -> None:
    command = Path(compiler(tmp_path, "-O0"))
    wait = f"for i in $(seq 600); do [ $(wc -l < {tmp_path}/calls) = 2 ] && break; sleep 0.1; done\n"
    command.write_text(command.read_text().replace("exec", wait + "exec"))  # neither compiles before both want to
    monkeypatch.setenv("CC", str(command))
    here = f"import pathlib; from {compilation.__name__} import load; "
    here += f"load(pathlib.Path({str(native.SOURCE)!r}), PANEL={native.PANEL}).gated_conv"
    finish(start(here), start(here))
    assert calls(tmp_path) == 2
    assert [path.suffix for path in cache.iterdir()] == [".so"]
    check(native.gated_conv2d, make())
    assert calls(tmp_path) == 2


def start(code: str, **environment: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", f"{code}; print('done')"], env=environment, cwd=ROOT, **pipes)


def finish(*processes: subprocess.Popen) -> None:
    """Nothing went wrong and nothing was logged."""
    said = [process.communicate(timeout=300 + GEOMETRIES) for process in processes]
    for process, (out, err) in zip(processes, said, strict=True):
        assert (process.returncode, out, err) == (0, "done\n", "")


def test_does_without_a_folder_to_write_to(cache: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "cache").touch()  # a file where the folder should be
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert native.library() is not None
    check(native.gated_conv2d, make())
    assert (tmp_path / "cache").read_bytes() == b""
    assert caplog.messages == []


def test_leaves_nothing_where_it_has_no_folder(cache: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    test_does_without_a_folder_to_write_to(cache, tmp_path, monkeypatch, caplog)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_leaves_a_read_only_folder_alone(cache: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    cache.mkdir(parents=True)
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert native.library() is not None
    assert list(cache.iterdir()) == []
    assert caplog.messages == []


def others(path: Path) -> None:
    os.chown(path, 65534, 65534)


UNSAFE = {
    "of another user": others,
    "writable by all": lambda path: path.chmod(0o777),
    "writable by its group": lambda path: path.chmod(0o770),
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@as_root
@pytest.mark.parametrize("change", UNSAFE.values(), ids=UNSAFE)
def test_loads_nothing_from_a_folder_that_others_could_fill(change, cache: Path, caplog) -> None:
    assert native.library() is not None
    (library,) = cache.iterdir()
    library.unlink()
    library.write_bytes(b"theirs")
    change(cache)
    native.library._loaded.cache_clear()
    assert native.library() is not None  # compiled in a private folder
    assert library.read_bytes() == b"theirs"
    assert [path.name for path in cache.iterdir()] == [library.name]
    (message,) = caplog.messages
    assert message.startswith(f"{cache} belongs to another user, or others may write to it, so that nothing is loaded")
    assert "chmod go-w it, or set XDG_CACHE_HOME" in message


@as_root
@pytest.mark.parametrize("change", UNSAFE.values(), ids=UNSAFE)
def test_makes_a_library_again_that_others_could_have_written(change, cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CC", compiler(tmp_path, "-O0"))
    assert native.library() is not None
    (library,) = cache.iterdir()
    change(library)
    native.library._loaded.cache_clear()
    assert native.library() is not None
    assert calls(tmp_path) == 2
    assert (library.stat().st_uid, stat.S_IMODE(library.stat().st_mode)) == (os.geteuid(), 0o700)


def test_what_it_makes_is_its_own_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0)
    try:
        assert native.library() is not None
    finally:
        os.umask(before)
    for path in (cache, *cache.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_relative_cache_folder_is_not_looked_at(cache: Path, tmp_path: Path, monkeypatch) -> None:
    """As the XDG specification has it: it would depend on where a process was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert native.library() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert len(list((tmp_path / "home" / ".cache" / "cheapconv").iterdir())) == 1


def test_does_not_compile_where_others_could_exchange_the_file(
    cache: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    (tmp_path / "cache").touch()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)  # without the sticky bit that /tmp has
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared"))
    assert native.library() is None
    (message,) = caplog.messages
    assert f"others may exchange files in the temporary folder {tmp_path}/shared; chmod +t it, or set TMPDIR" in message
    (tmp_path / "shared").chmod(0o1777)
    native.library._loaded.cache_clear()
    assert native.library() is not None


FAILURES = {
    "/nonexistent": "/nonexistent does not compile gated_conv.c ([Errno 2] No such file or directory: '/nonexistent')",
    "false": "false does not compile gated_conv.c",
}
FIX = "; install gcc or clang, or name one in the environment variable CC"


@pytest.mark.parametrize("command", FAILURES)
def test_does_without_a_compiler_and_says_so_once(command: str, cache: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("CC", command)
    a = make()
    for _ in range(3):
        assert torch.equal(gated_conv.gated_conv2d(a), gated_conv.portable(a))
    assert caplog.messages == [f"gated convolutions run as plain PyTorch, slower: {FAILURES[command]}{FIX}"]
    assert list(cache.iterdir()) == []


def test_a_compiler_may_have_arguments_of_its_own(cache: Path, quick: str, monkeypatch) -> None:
    monkeypatch.setenv("CC", f"{quick} -DNDEBUG")
    assert native.library() is not None


def test_a_broken_file_in_the_cache_is_made_again(cache: Path, caplog) -> None:
    assert native.library() is not None
    (library,) = cache.iterdir()
    library.unlink()  # it is loaded: writing into it would change running code
    library.write_bytes(b"broken")
    native.library._loaded.cache_clear()
    assert native.library() is not None
    assert caplog.messages == []


def test_quotes_a_compiler_that_fails(cache: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("CC", compiler(tmp_path, "-include /nonexistent.h"))
    assert native.library() is None
    (message,) = caplog.messages
    assert "does not compile gated_conv.c" in message
    assert "/nonexistent.h" in message
    assert list(cache.iterdir()) == []


def test_threads_may_ask_at_once(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: native.library(), range(4)))
    assert None not in found
    assert native.library() is not None


@pytest.mark.slow
@pytest.mark.parametrize("kernel", CASES)
@pytest.mark.parametrize("flags", ["-mno-avx512f", "-mno-avx", "-fno-openmp"])
def test_every_width_of_vector_agrees(flags: str, kernel, cache: Path, tmp_path: Path, monkeypatch) -> None:
    """8 lanes and 4, as where there is no AVX-512 or no AVX; one thread for want of OpenMP.

    What this machine itself has is under test everywhere else.
    """
    if flags.startswith("-mno") and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no such flag on this machine")
    monkeypatch.setenv("CC", compiler(tmp_path, flags))
    agrees_everywhere(kernel)
    assert calls(tmp_path) == 2  # each of the two files once, and not again without OpenMP


@pytest.mark.slow
def test_reads_and_writes_what_is_its_own(tmp_path: Path) -> None:
    """With the compiler's address and undefined-behaviour sanitizers, whatever the process's default type."""
    libraries = [printed(f"-print-file-name={name}") for name in ("libasan.so", "libstdc++.so.6")]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("the compiler has no address sanitizer")
    command = compiler(tmp_path, "-fsanitize=address,undefined -fno-sanitize-recover=all -O1")
    preload = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    here = "from tests.models.kernels import test_compilation, test_native; "
    here += "[test_compilation.agrees_everywhere(k, test_native.under_every) for k in test_compilation.CASES]"
    finish(start(here, CC=command, XDG_CACHE_HOME=str(tmp_path), **preload))


def printed(option: str) -> str:
    return subprocess.run([str(COMPILER), option], capture_output=True, text=True, check=True).stdout.strip()

"""Compile a C file on first use by the machine's own compiler, and keep the library for the next process.

It is kept in $XDG_CACHE_HOME/cheapconv (~/.cache/cheapconv) under a hash of the source, the compiler and the CPU,
written whole or not at all, so that several processes may compile at once. Loading a library runs it, so one that
another user could have written is never loaded: neither from a folder that others own or may write to, which the log
then names, nor from a file of that kind. Where there is no folder to keep it in, each process compiles for itself.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
# Without -fno-ivopts gcc keeps a pointer for every stream of the inner loops, more than there are registers.
FLAGS = ("-O3", "-fno-ivopts", "-march=native", "-std=gnu11", "-shared", "-fPIC")


class Library:
    """What `source` compiles to, made when it is first asked for.

    Called, it is the library, or None where there is none to be had: a line of the log then says, once, why, and that
    `what` runs as plain PyTorch.
    """

    def __init__(self, source: Path, what: str, **macros: int) -> None:
        self.source, self.what, self.macros = source, what, macros
        self._once, self._loaded = threading.Lock(), functools.cache(self._load)

    def __call__(self) -> Any:
        with self._once:
            return self._loaded()

    def _load(self) -> Any:
        try:
            return load(self.source, **self.macros)
        except OSError as failure:
            log.warning(f"{self.what} run as plain PyTorch, slower: {failure}")
            return None


def load(source: Path, **macros: int) -> ctypes.CDLL:
    """The library made of `source` by `cc`, or by what the environment variable CC names, with `macros` defined.

    Raises OSError where there is no compiler that can make it, or no safe folder to compile in.
    """
    defined = [f"-D{name}={value}" for name, value in macros.items()]
    command = [*(shlex.split(os.environ.get("CC", "")) or ["cc"]), *FLAGS, *defined, str(source)]
    identity = " ".join([source.read_text(), *command, _cpu()])
    name = f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    folder = _cache()
    if folder is None:
        _require_safe_temporary_folder()
        with tempfile.TemporaryDirectory(prefix="cheapconv-") as private:
            return ctypes.CDLL(str(_compile(command, Path(private) / name)))
    try:
        if _is_ours_alone(folder / name):
            return ctypes.CDLL(str(folder / name))
    except OSError:  # not there yet, or broken
        pass
    return ctypes.CDLL(str(_compile(command, folder / name)))


def _cache() -> Path | None:
    """The folder of compiled files, None where it cannot be written or trusted."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "cheapconv"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if _is_ours_alone(folder):
            with tempfile.NamedTemporaryFile(dir=folder):
                return folder
    except (OSError, RuntimeError):
        return None
    log.warning(
        f"{folder} belongs to another user, or others may write to it, so that nothing is loaded from it and each "
        "process compiles for itself; make it yours and chmod go-w it, or set XDG_CACHE_HOME to a folder of your own"
    )
    return None


def _is_ours_alone(path: Path) -> bool:
    """Whether no other user can have written to `path`; OSError where it does not exist."""
    found = path.stat()
    if os.name != "posix":  # no such owners there
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _require_safe_temporary_folder() -> None:
    """OSError where others could put their folder in the place of ours."""
    folder = Path(tempfile.gettempdir())
    if not folder.stat().st_mode & stat.S_ISVTX and not _is_ours_alone(folder):
        raise OSError(
            f"others may exchange files in the temporary folder {folder}; chmod +t it, or set TMPDIR to one of your own"
        )


def _compile(command: list[str], target: Path) -> Path:
    """Compile under another name first, so that another process sees the whole file or none."""
    with tempfile.TemporaryDirectory(dir=target.parent) as private:
        partial = Path(private) / target.name
        command = [*command, "-o", str(partial)]
        try:
            if subprocess.run([*command, "-fopenmp"], capture_output=True).returncode:
                subprocess.run(command, check=True, capture_output=True, text=True)  # with one thread
        except (OSError, subprocess.CalledProcessError) as failure:
            raise OSError(
                f"{command[0]} does not compile {target.name.partition('-')[0]}.c{_first_line(failure)}; install gcc "
                "or clang, or name one in the environment variable CC"
            ) from failure
        partial.chmod(stat.S_IRWXU)
        return partial.replace(target)


def _first_line(failure: OSError | subprocess.CalledProcessError) -> str:
    said = failure.stderr if isinstance(failure, subprocess.CalledProcessError) else str(failure)
    return f" ({said.strip().splitlines()[0]})" if said.strip() else ""


def _cpu() -> str:
    """A description of the CPU, on which -march=native depends."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    first = info.read_text().split("\n\n")[0].splitlines()
    return "\n".join(
        line for line in first if line.startswith(("vendor_id", "cpu family", "model", "flags", "CPU ", "Features"))
    )

"""What the machine refuses a run: one message with advice, from the errors that PyTorch and the system really raise."""

import errno
import os
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint import NotSavedError
from callbacks.explained import explained

CONFIG = {"run_dir": "runs/r", "data": {"batch_size": 128}, "trainer": {"precision": "32-true"}}


def message(error: BaseException, config: dict = CONFIG, processes: int = 1) -> str:
    with pytest.raises(OSError) as caught, explained(config, processes):  # noqa: PT011
        raise error
    return str(caught.value)


def test_memory_that_there_is_not() -> None:
    """The allocator of the CPU, asked for a petabyte."""
    expected = "out of memory with 64 images a process .data.batch_size=128, processes: 2; "
    with pytest.raises(OSError, match=expected) as caught, explained(CONFIG, 2):
        torch.empty(1 << 50)
    said = str(caught.value)
    assert "you tried to allocate 4503599627370496 bytes" in said
    assert (
        "; data.batch_size=64 trainer.accumulate_grad_batches=2 takes half of them for steps of as many images" in said
    )
    assert said.endswith("; or try trainer.precision=bf16-mixed, or a smaller network")


def test_memory_of_a_gpu_where_gradients_accumulate() -> None:
    config = CONFIG | {"trainer": {"precision": "32-true", "accumulate_grad_batches": 3}}
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
    said = message(error, config)
    assert (
        "; CUDA out of memory. Tried to allocate 2 GiB.); data.batch_size=64 trainer.accumulate_grad_batches=6" in said
    )
    assert "2 GiB.); try trainer.precision=bf16-mixed" in message(error, config, processes=128)


def test_a_full_disk_that_the_loggers_come_to() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert message(error).startswith("cannot write to runs/r (No space left on device); make room there: the same")


def test_tensorboards_thread_does_not_print_it_as_well(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """/dev/full is a disk without room; other errors of threads are printed."""
    with explained(CONFIG, 1):
        for work in (partial(Path("/dev/full").write_text, "x"), partial((tmp_path / "absent").read_text)):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    said = capfd.readouterr().err
    assert "No space" not in said
    assert "absent" in said


def test_the_first_error_counts() -> None:
    """Loggers that are closed for it fail, too."""
    second = OSError(errno.ENOSPC, "No space left on device")
    second.__context__ = NotSavedError("that of step 7 is kept")
    assert message(second) == "that of step 7 is kept"


def test_a_lost_process_and_a_lost_worker() -> None:
    gloo = (
        "[/__w/pytorch/gloo/tcp/pair.cc:545] Read error [127.0.0.1]:9: Connection reset by peer. This is typically so"
    )
    said = message(RuntimeError(gloo))
    assert "is lost (Read error [127.0.0.1]:9: Connection reset by peer); the same command goes on from" in said
    assert "(c10d)" in message(torch.distributed.DistNetworkError("(c10d)"))
    said = message(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert (
        "worker (pid 7) is killed by signal: Killed.; where that was for want of memory, lower data.num_workers" in said
    )
    killed = ChildProcessError("process 1 was killed")
    killed.__cause__ = RuntimeError(gloo)
    assert message(killed) == "process 1 was killed"


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), explained(CONFIG, 1):
        raise KeyError("x")

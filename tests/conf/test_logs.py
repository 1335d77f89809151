"""Who speaks on standard error."""

import os
import subprocess
import sys

import pytest

from conf.logs import is_first_process
from tests.conftest import ROOT

SPEAK = """
import logging
from conf.logs import log_to_stderr

log_to_stderr()
import pytorch_lightning  # only now, as train.py does

for name in ("callbacks.progress", "pytorch_lightning.utilities.rank_zero", "matplotlib.category"):
    logging.getLogger(name).info(f"{name} informs")
    logging.getLogger(name).warning(f"{name} warns")
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_libraries_only_warn_and_other_processes_too(rank: str) -> None:
    environment = {**os.environ, "RANK": rank}
    done = subprocess.run([sys.executable, "-c", SPEAK], cwd=ROOT, env=environment, capture_output=True, text=True)
    names = "callbacks.progress", "pytorch_lightning.utilities.rank_zero", "matplotlib.category"
    informs = ["callbacks.progress informs"] if rank == "0" else []
    assert done.stderr.splitlines() == [*informs, *(f"{name} warns" for name in names)]


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),  # started by Lightning
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),  # torchrun decides, on whichever node it runs
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}, False),  # srun, the first process of the second node
    ],
)
def test_the_first_process_of_all_speaks(monkeypatch, variables: dict[str, str], is_first: bool) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == is_first

"""A reader of 1.3 million names takes little memory, and no more after three epochs in two workers."""

import multiprocessing
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import gc, os, sys
from pathlib import Path
import numpy as np, torch
from torch.utils.data import DataLoader
from data.folder import FolderImages
from data.images import Names
from data.loader import Loader, Process
from data.samples import Request, TrainingSamples

def private() -> int:
    "Memory of this process alone, in bytes."
    kinds = ("Private_Clean:", "Private_Dirty:", "Swap:")
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))

class Unread(FolderImages):
    "1.3 million names as of ImageNet, with nothing behind them."
    def __init__(self, num):
        self.folder = Path("/nowhere")
        self.names = Names(f"n{i // 1300:08}/n{i // 1300:08}_{i}.JPEG" for i in range(num))
        self.labels = np.repeat(np.arange(num // 1300), 1300)
    def read(self, index):
        return self.name(index).encode()

class Memory(TrainingSamples):
    def __getitem__(self, request):
        super().__getitem__(request)
        return torch.zeros(1), 0, private() if request.position % 500 == 0 else 0

torch.set_num_threads(1)
before = private()
images = Unread(1_300_000)
gc.collect()
held = private() - before
gc.freeze()  # as train.py: else collecting garbage writes to, and so copies, what processes share
samples = Memory(images, np.arange(len(images)), lambda data, size, seed: torch.zeros(1, 1, 1), 1)
loader = DataLoader(samples, batch_sampler=(plan := []), num_workers=int(sys.argv[1]), persistent_workers=True)
peaks = []
for epoch in range(3):
    order = torch.randperm(len(images))[:30_000]
    plan[:] = [[Request(p, epoch, 1) for p in batch.tolist()] for batch in order.split(500)]
    peaks.append(max(int(used.max()) for _, _, used in loader) / 2**20)
print(held / 2**20, *peaks)
"""


@pytest.mark.slow
@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="reads Linux's accounts of forked processes")
def test_names_and_workers_do_not_grow() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, "2"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    held, *epochs = map(float, done.stdout.split())  # MiB
    print(done.stdout)
    assert held < 200
    assert max(epochs) - epochs[0] < 10

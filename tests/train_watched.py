"""train.py, followed after each job of a sweep by a line of what the process holds: run by test_sweep.py."""

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from omegaconf import DictConfig

from conf.launch import launch
from train import main


def watched(config: DictConfig) -> None:
    main(config)
    children = Path("/proc/self/task").glob("*/children")
    number = sum(len(path.read_text().split()) for path in children)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    print(f"held: {number} child processes, {resident // 2**20} MiB")


launch(watched, "train")

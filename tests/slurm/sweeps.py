"""Sweeps through launchers: started, and what they leave."""

import re
from pathlib import Path

from tests import processes

MODELS = ["resnet20", "resnet20_sic", "resnet20_lccl"]
TINY = ["data=digits", "model.backbone.depth=8", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
ON_CPUS = [f"hydra.launcher.{name}" for name in ("gpus_per_node=null", "cpus_per_task=1", "mem_per_cpu=null")]
SLURM = ["hydra/launcher=submitit_slurm", *ON_CPUS]  # of the tests' cluster


def check_each_job_once(root: Path, done: processes.Done, seeds: list[int]) -> None:
    """One directory with a result for each of MODELS and `seeds`, trained once, and one table of all."""
    assert done.returncode == 0, done.stderr
    assert "sacct" not in done.stderr
    logs = {path.parent.name: path.read_text() for path in root.glob("*/log.txt")}
    assert len(logs) == len(MODELS) * len(seeds) == len(list(root.glob("*/result.json")))
    for log in logs.values():
        assert log.count("$ python train.py") == log.count("epoch 1/1  loss") == 1, log
    names = [f"{model}_backbone.depth8" for model in MODELS]
    named = {f"{name}-digits-seed{seed}" for name in names for seed in seeds}
    assert {name.rpartition("-")[0] for name in logs} == named
    rows = dict(re.findall(r"^(resnet20\S*) +(\d+) ", done.stdout, re.MULTILINE))
    assert rows == dict.fromkeys(names, str(len(seeds))), done.stdout

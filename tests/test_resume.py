"""Killing a run anywhere and starting the same command again changes nothing: real processes, SIGKILL, equal bits."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.photographs import write_photographs
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
RESNET = ["model=resnet20", "model.backbone.depth=8"]
SMALL = ["trainer.accelerator=cpu", "trainer.max_epochs=1"]
DIGITS = ["data=digits", "data.batch_size=128"]  # 10 steps an epoch


FOLDER = ["data=image_folder", "data.num_classes=6", "data.input_size=32", "data.batch_size=12"]  # of 127: 10 steps
FOLDER += ["data.randaugment=9", "data.erasing=0.25", "data.cutmix=1.0"]
SHARDS = ["data=imagenet_shards", *FOLDER[1:]]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root, 130, 101, (64, 48))
    return root


def run(run_dir: Path, arguments: list[str], kill_at_step: int | None = None) -> subprocess.CompletedProcess:
    script = "train.py" if kill_at_step is None else "tests/train_killed.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KILL_AT_STEP": str(kill_at_step)}
    options = [*SMALL, "callbacks.checkpoint.every_steps=4", f"run_dir={run_dir}", *arguments]
    command = [sys.executable, script, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def checkpoint(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "last.ckpt", weights_only=True)


def check_resume(tmp_path: Path, *arguments: str) -> None:
    """10 steps straight against 4, a kill before step 7, and 6 more from the checkpoint."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    done = run(straight, list(arguments))
    assert done.returncode == 0, done.stderr
    assert run(killed, list(arguments), kill_at_step=6).returncode != 0
    assert checkpoint(killed)["global_step"] == 4
    done = run(killed, list(arguments))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    ours, expected = checkpoint(killed), checkpoint(straight)
    assert ours["global_step"] == expected["global_step"] == 10
    for name, weights in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weights), name
    assert ours["loops"]["fit_loop"]["epoch_progress"] == expected["loops"]["fit_loop"]["epoch_progress"]


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    script = [sys.executable, "scripts/make_shards.py", f"root={photographs}", f"out={out}", "images_per_shard=40"]
    subprocess.run(script, cwd=ROOT, check=True, capture_output=True)
    return out


def processes(number: int) -> list[str]:
    return [f"trainer.devices={number}", f"trainer.strategy={'ddp' if number > 1 else 'auto'}"]


def test_data_in_memory(tmp_path: Path) -> None:
    check_resume(tmp_path, *RESNET, *DIGITS, *processes(2), "data.cutout=4", "data.mixup=0.2", "data.flip=alternating")


def test_image_folders(tmp_path: Path, photographs: Path) -> None:
    check_resume(tmp_path, *RESNET, *FOLDER, f"data.root={photographs}", "data.num_workers=2", *processes(2))


def test_shards_with_dropout(tmp_path: Path, shards: Path) -> None:
    dropout = ["model=resnet20", "model/backbone=torchvision", "model.backbone.name=squeezenet1_1", "optimizer.lr=1e-3"]
    check_resume(tmp_path, *dropout, *SHARDS, f"data.root={shards}", "data.num_workers=2", "data.input_size=64")

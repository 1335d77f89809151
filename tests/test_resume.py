"""Killing a run anywhere and starting the same command again changes nothing: real processes, SIGKILL, equal bits."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.benchmarks.photographs import write_photographs
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


def run(run_dir: Path, arguments: list[str], kill_at: int | str | None = None) -> subprocess.CompletedProcess:
    """train.py, to its end or killed at a step, or (`fit`, `test`) after fit or in the test."""
    script = "train.py" if kill_at is None else "tests/train_killed.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KILL_AT": str(kill_at)}
    options = [*SMALL, "callbacks.checkpoint.every_steps=4", f"run_dir={run_dir}", *arguments]
    command = [sys.executable, script, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def checkpoint(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "last.ckpt", weights_only=True)


def result(run_dir: Path) -> dict[str, Any]:
    record = json.loads((run_dir / "result.json").read_text())
    return {key: record[key] for key in ("top1", "top5", "val_top1", "epochs", "gate_sparsity", "macs_effective")}


def rows(run_dir: Path) -> list[dict[str, str]]:
    """What the loggers were told, but for the costs that each start repeats, by step."""
    found = []
    for file in run_dir.glob("csv/*/metrics.csv"):
        with file.open() as lines:
            found += [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
    return sorted((row for row in found if "cost/macs" not in row), key=lambda row: (int(row["step"]), sorted(row)))


def finish(run_dir: Path, arguments: list[str]) -> None:
    done = run(run_dir, arguments)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def check_same(killed: Path, straight: Path) -> dict[str, Any]:
    """Weights, progress, random numbers, results and rows; the checkpoint of `straight`."""
    ours, expected = checkpoint(killed), checkpoint(straight)
    assert ours["global_step"] == expected["global_step"]
    for part in {"state_dict", "trained_state_dict"} & expected.keys():
        for name, weights in expected[part].items():
            assert torch.equal(ours[part][name], weights), name
    assert ours["loops"]["fit_loop"]["epoch_progress"] == expected["loops"]["fit_loop"]["epoch_progress"]
    for state, expected_state in zip(generators(ours), generators(expected), strict=True):
        assert torch.equal(state, expected_state)
    assert result(killed) == result(straight)
    assert rows(killed) == rows(straight)
    return expected


def generators(state: dict[str, Any]) -> list[torch.Tensor]:
    return [devices["cpu"] for devices in state["callbacks"]["Last"]["generators"]]


def check_resume(tmp_path: Path, *arguments: str, kill_at: int = 6, kept: int = 4, steps: int = 10) -> dict[str, Any]:
    """`steps` straight against a kill, and the rest from the checkpoint of step `kept`; the checkpoint at the end."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(straight, [*arguments])
    assert run(killed, [*arguments], kill_at).returncode != 0
    assert checkpoint(killed)["global_step"] == kept
    finish(killed, [*arguments])
    expected = check_same(killed, straight)
    assert expected["global_step"] == steps
    return expected


@pytest.fixture(scope="module")
def shards(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    script = [sys.executable, "scripts/make_shards.py", f"root={photographs}", f"out={out}", "images_per_shard=40"]
    subprocess.run(script, cwd=ROOT, check=True, capture_output=True)
    return out


def processes(number: int) -> list[str]:
    return [f"trainer.devices={number}", f"trainer.strategy={'ddp' if number > 1 else 'auto'}"]


def test_image_folders(tmp_path: Path, photographs: Path) -> None:
    check_resume(tmp_path, *RESNET, *FOLDER, f"data.root={photographs}", "data.num_workers=2")


def test_shards_with_dropout(tmp_path: Path, shards: Path) -> None:
    """Each process drops its own units."""
    dropout = ["model=resnet20", "model/backbone=torchvision", "model.backbone.name=squeezenet1_1", "optimizer.lr=1e-3"]
    options = [*dropout, *SHARDS, f"data.root={shards}", "data.num_workers=2", "data.input_size=64", *processes(2)]
    first, second = generators(check_resume(tmp_path, *options))
    assert not torch.equal(first, second)


def test_limits_of_batches_and_steps(tmp_path: Path) -> None:
    """7 of 10 batches an epoch in 3 steps, validated every 3; the run ends within its third epoch."""
    limits = ["+trainer.limit_train_batches=7", "+trainer.val_check_interval=3", "+trainer.max_steps=8"]
    limits += ["+trainer.accumulate_grad_batches=3", "trainer.max_epochs=-1", "+trainer.limit_val_batches=1"]
    often = ["callbacks.checkpoint.every_steps=1", "trainer.log_every_n_steps=1"]
    gates = ["model=resnet20_lccl", "model.backbone.depth=8", "gate_penalty.l1=0.01"]
    check_resume(tmp_path, *gates, *DIGITS, *limits, *often, kill_at=5, kept=5, steps=8)
    within_second_epoch = [row for row in rows(tmp_path / "killed") if "train/gate_penalty" in row][1]
    assert within_second_epoch["step"] == "5"


def test_the_end_of_an_epoch_where_batches_and_steps_are_limited(tmp_path: Path) -> None:
    limits = ["+trainer.limit_train_batches=7", "+trainer.max_steps=17", "trainer.max_epochs=3"]
    check_resume(
        tmp_path, *RESNET, *DIGITS, *limits, "callbacks.checkpoint.every_steps=100", kill_at=9, kept=7, steps=17
    )


CHANGED = ["data.cutout=4", "data.mixup=0.2", "data.flip=alternating"]
EMA = ["callbacks=ema", "callbacks.ema.decay=0.5", *RESNET, *DIGITS, "trainer.max_epochs=2"]
EVERYWHERE = (6, "fit", "test")
HARD = {
    "one process": (["trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=2"], EVERYWHERE),
    "two processes": ([*processes(2), *CHANGED, "+trainer.check_val_every_n_epoch=2"], EVERYWHERE),
    "compiled": (["compile=true"], (6,)),  # each start compiles
}


@pytest.mark.parametrize(("options", "places"), HARD.values(), ids=HARD)
def test_averaged_weights_wherever_the_run_is_killed(
    tmp_path: Path, options: list[str], places: tuple[int | str, ...]
) -> None:
    """In fit, between fit and test, in the test: the averaged network is judged all the same."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    finish(straight, [*EMA, *options])
    for place in places:
        assert run(killed, [*EMA, *options], place).returncode != 0
        assert not (killed / "result.json").exists()
    finish(killed, [*EMA, *options])
    state = check_same(killed, straight)
    averaged, trained = state["state_dict"], state["trained_state_dict"]
    assert not any(torch.equal(averaged[name], trained[name]) for name in averaged if name.endswith("weight"))

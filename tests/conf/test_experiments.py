"""Every recipe of conf/experiment: it composes, binds, takes a step, and says what it needs where data are absent."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from conf import binding
from models.build import Input, build
from models.training.param_groups import param_groups
from tests import processes
from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "experiment"
ALL = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
SWEEPS = [name for name in ALL if name.startswith(("search/", "study/"))]
EXPERIMENTS = [name for name in ALL if name not in SWEEPS]
STEPS_AN_EPOCH = 100


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_composes_binds_and_says_its_command(plain, name: str) -> None:
    binding.check(plain(f"experiment={name}", "run_dir=here"))
    binding.check(plain(f"experiment={name}", "run_dir=here", "data=fake"))  # to try it out
    assert f"python train.py experiment={name}" in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_composes_binds_and_says_its_command(plain, name: str) -> None:
    binding.check(plain(f"experiment={name}", "run_dir=here"))
    assert f"python train.py -m experiment={name}" in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "cifar100" in name])
def test_a_recipe_for_cifar100_is_that_for_cifar10_with_other_data(plain, name: str) -> None:
    ours, theirs = (
        plain(f"experiment={recipe}", "run_dir=here") for recipe in (name, name.replace("cifar100", "cifar10"))
    )
    assert ours | {"data": None} == theirs | {"data": None}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "cifar100" not in name])
def test_takes_a_step(plain, name: str) -> None:
    """At its own size; ImageNet's networks without the arithmetic."""
    config = plain(f"experiment={name}", "run_dir=here")
    data, size = config["data"], config["data"]["input_size"]
    parts = instantiate({key: config[key] for key in ("model", "optimizer", "scheduler")}, _convert_="all")
    with torch.device("meta" if size > 32 else "cpu"):
        net = build(**parts["model"], input=Input(data["num_classes"], size, data["channels"])).net
        images, labels = torch.randn(2, data["channels"], size, size), torch.tensor([0, 1])
    groups = param_groups(net, config["optimizer"]["lr"], config["optimizer"]["weight_decay"])
    unfused = {"fused": False} if images.is_meta and config["optimizer"].get("fused") else {}  # refuses this device
    optimizer = parts["optimizer"](groups, **unfused)
    epochs = config["trainer"]["max_epochs"]
    parts["scheduler"](optimizer, epochs * STEPS_AN_EPOCH, STEPS_AN_EPOCH).step_update(0)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    logits = net(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=config["label_smoothing"])
    loss.backward()
    optimizer.step()
    assert logits.shape == (2, data["num_classes"])
    assert all(parameter.grad is not None for parameter in net.parameters())
    if not images.is_meta:
        assert loss.isfinite()
        assert any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


ABSENT = [
    ("lccl/cifar10_resnet110", "cifar-10-batches-py", "mkdir -p {}/data, and the same command again"),
    ("lccl/cifar100_resnet110", "cifar-100-python", "mkdir -p {}/data, and the same command again"),
    ("lccl/imagenet_resnet18", "train/", "ln -s /path/to/train /path/to/val {}/data/imagenet/"),
]


@pytest.mark.parametrize(("name", "folder", "command"), ABSENT)
def test_absent_data_are_explained_before_anything_heavy_is_imported(
    tmp_path: Path, name: str, folder: str, command: str
) -> None:
    environment = os.environ | {"DATA_ROOT": str(tmp_path / "data"), "RUN_ROOT": str(tmp_path / "runs")}
    script = [sys.executable, "-X", "importtime", "train.py", f"experiment={name}"]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert folder in done.stderr
    assert command.format(tmp_path) in done.stderr
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "hydra" in imported
    assert not imported & {"torch", "pytorch_lightning", "numpy", "timm"}
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_recipe_runs_from_end_to_end(tmp_path: Path) -> None:
    few = [f"+trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    short = ["trainer.max_epochs=2", *few]
    command = ["experiment=lccl/cifar10_resnet20", "data=fake", "data.batch_size=8", *short]
    processes.run("train.py", *command, status=0, RUN_ROOT=str(tmp_path / "runs"))
    assert [path.name for path in (tmp_path / "runs").glob("*/result.json")] == ["result.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "digits_sic"])
def test_the_rate_is_meant_for_the_batch_of_the_recipe(plain, name: str) -> None:
    config = plain(f"experiment={name}", "run_dir=here")
    accumulated = config["trainer"].get("accumulate_grad_batches", 1)
    assert config["lr_batch_size"] == config["data"]["batch_size"] * accumulated

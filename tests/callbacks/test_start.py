"""python train.py init=...: a run that starts from another one, as a user runs it."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model_weights, squeezenet1_1

from models.load import load_run
from models.run_directory import RESULT
from tests import processes

pytestmark = pytest.mark.slow
SMALL = ["model.backbone.depth=8", "trainer.accelerator=cpu", "data.batch_size=128", "trainer.max_epochs=4"]


def top1(run_dir: Path) -> float:
    return json.loads((run_dir / RESULT).read_text())["top1"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source") / "run"
    processes.run("train.py", "model=resnet20", *SMALL, f"run_dir={directory}", status=0)
    return directory


def test_a_run_starts_where_another_one_ended(source: Path, tmp_path: Path) -> None:
    """At a rate of zero nothing but the start decides the accuracy."""
    still = ["model/layer=bases", "model.layer.num_bases=5", "optimizer.lr=0", "trainer.max_epochs=1"]
    arguments = ["model/backbone=resnet20", *SMALL[:-1], *still, f"init={source}", f"run_dir={tmp_path / 'run'}"]
    done = processes.run("train.py", *arguments, status=0)
    assert "6 of its convolutions approximated" in done.stderr
    assert "stage1.0.conv1 0.0" in done.stderr  # the error of the first layer is small
    assert top1(tmp_path / "run") == pytest.approx(top1(source), abs=5)
    said = json.loads((tmp_path / "run" / RESULT).read_text())["start"]
    assert said["source"] == str(source)
    assert said["val_top1"] == pytest.approx(json.loads((source / RESULT).read_text())["val_top1"], abs=5)
    assert f"{said['val_top1']:.2f} % of the validation images right before the first step" in done.stderr
    assert list(said["errors"]) == said["approximated"]
    assert 0 < said["errors"]["stage1.0.conv1"] < 0.1


def test_another_backbone_is_refused_before_anything_is_trained(source: Path, tmp_path: Path) -> None:
    arguments = ["model=resnet20", "model.backbone.depth=14", f"init={source}", f"run_dir={tmp_path / 'run'}"]
    done = processes.run("train.py", *arguments, status=1)
    assert f"init={source}: stage1.1.conv1.weight is missing in the network to start from" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_weights_of_a_library(tmp_path: Path) -> None:
    """At a rate of zero the run ends with the weights that torchvision finds in its cache."""
    (published,) = get_model_weights("squeezenet1_1")
    cache = tmp_path / "hub" / "checkpoints" / Path(published.url).name
    cache.parent.mkdir(parents=True)
    torch.save(squeezenet1_1().state_dict(), cache)
    network = ["model/backbone=torchvision", "model.backbone.name=squeezenet1_1", "model.backbone.pretrained=true"]
    short = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "optimizer.lr=0"]
    command = ["train.py", "model=resnet20", *network, *short]
    done = processes.run(*command, f"run_dir={tmp_path / 'run'}", status=0, TORCH_HOME=str(tmp_path))
    assert "the weights of torchvision's squeezenet1_1; of another shape here, and random: features.0.w" in done.stderr
    result = json.loads((tmp_path / "run" / RESULT).read_text())
    assert result["start"]["source"] == "torchvision's squeezenet1_1"
    ended = load_run(tmp_path / "run").net.state_dict()
    theirs = torch.load(cache, weights_only=True)
    differ = [name for name in ended if theirs[name].shape != ended[name].shape or (theirs[name] != ended[name]).any()]
    assert differ == ["features.0.weight", "classifier.1.weight", "classifier.1.bias"]
    both = [f"init={tmp_path / 'run'}", f"run_dir={tmp_path / 'both'}"]
    refused = processes.run(*command, *both, status=1, TORCH_HOME=str(tmp_path))
    assert "model.backbone.pretrained=true: a run starts from one network" in refused.stderr

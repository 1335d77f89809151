"""From a run's directory back to its network; what is no run's directory is refused with the reason."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from torch import nn

from models.build import Input, build
from models.load import LAYOUT, load_run
from models.run_directory import CHECKPOINT, CONFIG, PREVIOUS, RESULT
from tests.conftest import ROOT

SMALL = ("model.backbone.depth=8", "data=digits")


@pytest.fixture
def config(plain: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return plain("model=resnet20_sic", *SMALL)


@pytest.fixture
def net(config: dict[str, Any]) -> nn.Module:
    return build(**instantiate(config["model"], _convert_="all"), input=Input(10, 16, 1)).net


def written(folder: Path, config: dict[str, Any], net: nn.Module, **changed: Any) -> Path:
    """A directory as of a run that is not finished."""
    (folder / CONFIG).write_text(json.dumps(config))
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"layout": LAYOUT, "state_dict": state, **changed}, folder / CHECKPOINT)
    return folder


def test_the_network_its_input_and_its_configuration_come_back(config, net, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run = load_run(written(tmp_path, config, net))
    assert torch.equal(before, torch.get_rng_state())
    images = torch.randn(3, 1, 16, 16)
    assert torch.equal(run.net(images), net.eval()(images))
    assert not run.net.training
    assert (run.input, run.config) == (Input(10, 16, 1), config)


@pytest.mark.parametrize(
    "model",
    [
        ["model/backbone=resnet20", "model/layer=sic_subdivided", "model.budget_ratio=10"],
        [
            "model/backbone=timm",
            "model.backbone.name=resnet10t",
            "model/layer=bases",
            "model/scope=stages",
            "model.scope.stages=[2,3]",
        ],
        ["model/backbone=resnet20", "model/layer=lccl", "model/scope=names", "model.scope.patterns=[*.conv2]"],
    ],
    ids=" ".join,
)
def test_nested_layers_budgets_and_scopes_are_built_again(model: list[str], plain, tmp_path: Path) -> None:
    config = plain(*model, "data=fake")
    images = Input(*(config["data"][name] for name in ("num_classes", "input_size", "channels")))
    net = build(**instantiate(config["model"], _convert_="all"), input=images).net
    loaded = load_run(written(tmp_path, config, net)).net
    assert str(loaded) == str(net.eval())
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), net.parameters(), strict=True))


FOREIGN: list[dict[str, Any]] = [
    {"_target_": "os.system", "command": "true"},
    {"_target_": "torch.os.system", "command": "true"},
    {"_target_": "torch.nn.functional.torch.hub.load", "repo_or_dir": "a/b"},
    {"_target_": "torch.nn.Parameter"},
    {"_target_": "torch.nn.factory_kwargs", "kwargs": {}},
    {"_target_": "models.kernels.compilation.load", "source": "a.c"},
    {"_target_": "models.layers.sic.nn.Conv2d"},
    {"_target_": "models.backbones.library.get_close_matches"},
    {"_target_": "models.layers.absent.Absent"},
    {"_target_": "models.layers.lccl._absent"},
    {"_target_": "data.folder.image_folder"},
    {"_target_": "torch.nn.Conv2d", "bias": [{"_target_": "builtins.eval"}]},
]


@pytest.mark.parametrize("layer", FOREIGN, ids=str)
def test_only_parts_of_networks_are_called(layer: dict[str, Any], config, net, tmp_path: Path) -> None:
    written(tmp_path, config | {"model": config["model"] | {"layer": layer}}, net)
    with pytest.raises(ValueError, match=r"names _target_: .*, which is no layer, backbone or scope of this code"):
        load_run(tmp_path)


def test_refusals_say_what_is_missing(config, net, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder .*absent; give the directory of a run"):
        load_run(tmp_path / "absent")
    with pytest.raises(ValueError, match="has neither result.json nor config.json; give the directory of a run"):
        load_run(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has no last.ckpt, the file of a run's weights; copy it there"):
        load_run(tmp_path)
    (tmp_path / PREVIOUS).touch()
    with pytest.raises(ValueError, match=r"copy it there from the run \(previous.ckpt is there: its copy would do\)"):
        load_run(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"foreign")
    with pytest.raises(ValueError, match=r"cannot read .*last.ckpt \(File is not a zip file\)"):
        load_run(tmp_path)
    written(tmp_path, config, net, layout=1)
    with pytest.raises(ValueError, match=r"last.ckpt was not written by this version of the code; load a run that"):
        load_run(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"model": {}, "data": {}}', "[1]", "no JSON"])
def test_a_foreign_configuration_is_named(content: str, config, net, tmp_path: Path) -> None:
    (written(tmp_path, config, net) / CONFIG).write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_run(tmp_path)
    (tmp_path / RESULT).write_text(json.dumps({"config": {}, "data": "digits"}))
    with pytest.raises(ValueError, match=r"result\.json is not what a run writes"):
        load_run(tmp_path)


def test_a_network_of_other_code_is_refused(config, net, tmp_path: Path) -> None:
    other = config | {"model": config["model"] | {"layer": {"_target_": "torch.nn.Conv2d", "_partial_": True}}}
    with pytest.raises(ValueError, match=r"holds another network: .* is .* there and .* here; load a run that this"):
        load_run(written(tmp_path, other, net))
    layer = config["model"]["layer"] | {"renamed": 1}
    with pytest.raises(ValueError, match=r"arguments that this code does not know \(.*'renamed'\)"):
        load_run(written(tmp_path, config | {"model": config["model"] | {"layer": layer}}, net))


def test_a_checkpoint_that_would_run_code_is_not_read(config, net, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*last.ckpt"):
        load_run(written(tmp_path, config, net, code=os.system))


@pytest.mark.slow
def test_the_averaged_weights_of_a_run_classify_as_its_result_says(tmp_path: Path) -> None:
    overrides = [*SMALL, "model=resnet20_sic", "callbacks=ema", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
    command = [sys.executable, "train.py", *overrides, f"run_dir={tmp_path}/run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    data = instantiate(run.config["data"], _convert_="all")
    data.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    data.setup("test")
    with torch.inference_mode():
        hits = torch.cat([run.net(images).argmax(1) == labels for images, labels in data.test_dataloader()])
    assert 100 * hits.double().mean().item() == pytest.approx(
        json.loads((tmp_path / "run" / RESULT).read_text())["top1"]
    )
    trained = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["trained_state_dict"]
    state = run.net.state_dict()
    assert any(not torch.equal(tensor, state[name.removeprefix("net.")]) for name, tensor in trained.items())

"""A run's names and directory are functions of the configuration."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from conf import schema
from conf.run import Run, claim, refuse_foreign, settle
from tests.conftest import ROOT


def settled(*overrides: str) -> Run:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    del config.hydra
    return settle(config)


def test_one_directory_for_one_configuration_and_seed() -> None:
    first = settled("model=resnet20_lccl", "seed=3")
    assert first.directory.parent == Path("runs")
    assert first.directory.name.startswith("resnet20_lccl-digits-seed3-")
    assert settled("seed=3", "model=resnet20_lccl").directory == first.directory
    others = [settled("model=resnet20_lccl", "seed=4"), settled("model=resnet20_lccl", "seed=3", "optimizer.lr=0.2")]
    assert len({first.directory, *(other.directory for other in others)}) == 3


def test_the_directory_can_be_chosen(monkeypatch) -> None:
    assert settled("run_dir=/somewhere/else").directory == Path("/somewhere/else")
    monkeypatch.setenv("RUN_ROOT", "/scratch")
    assert settled().directory.parent == Path("/scratch")
    assert settled().config["callbacks"]["checkpoint"]["run_dir"] == str(settled().directory)


NAMES = [
    (["model=resnet50_sic"], "resnet50_sic"),
    (["model/layer=conv"], "resnet20"),
    (["model/backbone=vgg16", "model/layer=lccl"], "vgg16_lccl"),
    (["model/scope=all"], "resnet20_sic_all"),
    (["model/backbone=timm", "model.backbone.name=regnety_004"], "regnety_004_sic"),
]


@pytest.mark.parametrize(("overrides", "name"), NAMES)
def test_a_preset_with_other_parts_gets_another_name(overrides: list[str], name: str) -> None:
    assert settled(*overrides).identity["model"] == name


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    mine = settled(f"run_dir={tmp_path / 'run'}")
    claim(mine)
    (tmp_path / "run" / "last.ckpt").write_text("")
    refuse_foreign(mine)  # the same run again: to resume
    claim(mine)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    with pytest.raises(ValueError, match="holds a run with another configuration .* choose another run_dir"):
        refuse_foreign(settled(f"run_dir={tmp_path / 'run'}", "seed=2"))
    (tmp_path / "run" / "last.ckpt").unlink()
    refuse_foreign(settled(f"run_dir={tmp_path / 'run'}", "seed=2"))  # nothing is lost


def test_an_unwritable_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to run_dir .*file/run .*; set run_dir or RUN_ROOT"):
        claim(settled(f"run_dir={tmp_path / 'file' / 'run'}"))

"""A run's names and directory are functions of the configuration."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

import train
from conf import schema
from conf.run import Run, attempt, begin, finished, settle
from conf.stop import Stopped
from models import time_budget
from models.cost import count
from tests.conftest import ROOT


def settled(*overrides: str) -> Run:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = compose("train", list(overrides), return_hydra_config=True)
        config.hydra.job.config_name = "train"  # as hydra.main has it
        HydraConfig.instance().set_config(config)
        del config.hydra
        return settle(config)


def keep(run: Run) -> None:
    """What a start writes before it trains."""
    with attempt(run):
        begin(run)


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
    (["model.backbone.depth=26"], "resnet20_sic_backbone.depth26"),
    (["model/layer=ghost", "model.budget_ratio=3"], "resnet20_ghost_budget_ratio3"),
    (["model/scope=stages", "model.scope.stages=[2,3]"], "resnet20_sic_stages_scope.stages2-3"),
    (
        ["model=resnet34_sic", "model.budget_ratio=null", "model.layer.depth=2"],
        "resnet34_sic_budget_ratio-null_layer.depth2",
    ),
    (["experiment=mobilenet/imagenet_v1"], "mobilenetv1"),
]


@pytest.mark.parametrize(("overrides", "name"), NAMES)
def test_a_preset_with_other_parts_gets_another_name(overrides: list[str], name: str) -> None:
    assert settled(*overrides).names["model"] == name


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    where = f"run_dir={tmp_path / 'run'}"
    keep(settled(where))
    (tmp_path / "run" / "last.ckpt").write_text("")
    keep(settled(where))  # the same run again: to resume
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    with pytest.raises(ValueError, match=r"another configuration \(seed=1 there and 2 here\); choose another run_dir"):
        settled(where, "seed=2")
    (tmp_path / "run" / "last.ckpt").unlink()
    settled(where, "seed=2")  # nothing is lost


@pytest.mark.parametrize("text", ["", "[]", '{"top1": 99}', '{"config": '])
def test_a_foreign_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result.json.*; move it away or choose another run_dir"):
        settled(f"run_dir={tmp_path}")


def test_a_copied_directory_is_the_same_run(tmp_path: Path) -> None:
    made = settled(f"run_dir={tmp_path / 'here'}")
    keep(made)
    (tmp_path / "here" / "result.json").write_text(json.dumps({"config": made.config, "data": "digits"}))
    (tmp_path / "here").rename(tmp_path / "there")
    assert finished(settled(f"run_dir={tmp_path / 'there'}"))


def test_a_run_can_be_given_more_epochs(tmp_path: Path) -> None:
    where, run = f"run_dir={tmp_path}", settled(f"run_dir={tmp_path}")
    keep(run)
    (tmp_path / "result.json").write_text(json.dumps({"config": run.config, "data": "digits"}))
    with pytest.raises(ValueError, match=r"trainer.max_epochs=40 there and 60 here.*where last.ckpt is there"):
        settled(where, "trainer.max_epochs=60")
    (tmp_path / "last.ckpt").write_text("")
    for other in (["trainer.max_epochs=30"], ["trainer.max_epochs=60", "optimizer.lr=0.2"]):
        with pytest.raises(ValueError, match="Only trainer.max_epochs may change, to more"):
            settled(where, *other)
    longer = settled(where, "trainer.max_epochs=60")
    assert longer.extension == {"extended_from": [40]}
    assert not finished(longer)
    keep(longer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "last.ckpt", "result_40_epochs.json"]
    keep(settled(where, "trainer.max_epochs=60"))  # killed, and the same command again
    assert settled(where, "trainer.max_epochs=80").extension == {"extended_from": [40, 60]}


def test_what_a_budget_of_milliseconds_came_to_is_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another one when it is measured again, and every process of a run is to build the same network."""
    overrides = ["model=resnet20_sic", "model.budget_ms=3", f"run_dir={tmp_path / 'run'}"]
    first = settled(*overrides)
    assert first.config["model"]["budget_macs"] is None
    keep(first.with_model({"budget_macs": 5_000_000}))
    assert settled(*overrides).config["model"]["budget_macs"] == 5_000_000
    assert settled(*overrides, "model.budget_ms=4").config["model"]["budget_macs"] is None
    for name, value in (("TORCHELASTIC_RUN_ID", "1"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert settled(*overrides).config["model"]["budget_macs"] == 5_000_000
    with pytest.raises(ValueError, match=r"budget_ms=4: one process has to measure .* give the model.budget_macs"):
        settled(*overrides, "model.budget_ms=4")
    with pytest.raises(ValueError, match=r"model.budget_ms=3 and model.budget_macs=5e\+06: give one of them"):
        settled(*overrides, "model.budget_macs=5e6")


def test_a_run_keeps_what_its_budget_of_milliseconds_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Run] = []
    monkeypatch.setattr(train, "fit", lambda run, config, built, teacher: begun.append(run))
    monkeypatch.setattr(time_budget, "milliseconds", lambda nets, shape: [count(net, shape[1:]).macs for net in nets])
    train.train(settled("model=resnet20", "model.backbone.depth=8", "model/layer=ghost", "model.budget_ms=1.5e6"))
    model = begun[0].config["model"]
    assert 1.4e6 < model["budget_macs"] <= model["budget_ms"] == 1.5e6


def test_a_failed_run_says_so_in_its_directory_until_it_is_tried_again(tmp_path: Path) -> None:
    run = settled(f"run_dir={tmp_path / 'run'}")
    with pytest.raises(ValueError, match="nothing was made"), attempt(run):
        raise ValueError("nothing was made")
    assert not (tmp_path / "run").exists()
    keep(run)
    with pytest.raises(ValueError, match="is nan"), attempt(run):
        raise ValueError("the loss is nan")
    assert (tmp_path / "run" / "failed.txt").read_text() == "ValueError: the loss is nan\n"
    keep(run)
    assert not (tmp_path / "run" / "failed.txt").exists()


def test_a_run_that_was_stopped_has_not_failed_and_notes_are_kept(tmp_path: Path) -> None:
    run = settled(f"run_dir={tmp_path / 'run'}")
    keep(run)
    with pytest.raises(Stopped), attempt(run):
        raise Stopped
    assert not (run.directory / "failed.txt").exists()
    error = ValueError("short")
    error.add_note("and long")
    with pytest.raises(ValueError, match="short"), attempt(run):
        raise error
    assert (run.directory / "failed.txt").read_text() == "ValueError: short\nand long\n"


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    run = settled(f"run_dir={tmp_path / 'run'}")
    keep(run)
    for name in (".last.ckpt.71", ".previous.ckpt.8", "previous.ckpt"):
        (run.directory / name).touch()
    keep(run)
    assert sorted(path.name for path in run.directory.iterdir()) == ["config.json", "previous.ckpt"]


def test_only_the_first_process_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may come to it before the first has made the directory."""
    monkeypatch.setenv("RANK", "1")
    run = settled(f"run_dir={tmp_path / 'run'}")
    begin(run)
    assert not run.directory.exists()


def test_another_run_may_not_take_the_place_of_one_that_has_only_the_checkpoint_before(tmp_path: Path) -> None:
    run = settled(f"run_dir={tmp_path / 'run'}")
    keep(run)
    (run.directory / "previous.ckpt").touch()
    with pytest.raises(ValueError, match="holds a run with another configuration"):
        settled(f"run_dir={tmp_path / 'run'}", "seed=5")


def test_an_unwritable_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to run_dir .*file/run .*; set run_dir or RUN_ROOT"):
        keep(settled(f"run_dir={tmp_path / 'file' / 'run'}"))

"""What identifies a run and what does not: each line of the table in conf/README.md."""

from functools import cache

import pytest

from conf.identity import differences, identifying
from conf.run import Run
from tests.conf.test_run import settled

PART = [
    "model=resnet20",
    "model/backbone=vgg16",
    "model/layer=ghost",
    "model/scope=all",
    "model.backbone.depth=26",
    "model.layer.depth=2",
    "model.budget_ratio=4",
    "model.budget_ms=4",
    "data=fake",
    "data.input_size=32",
    "data.batch_size=32",
    "data.val_fraction=0.2",
    "data.cutout=4",
    "data.mixup=0.2",
    "optimizer=rmsprop",
    "optimizer.lr=0.2",
    "scheduler=polynomial",
    "scheduler.warmup_epochs=1",
    "trainer.max_epochs=41",
    "trainer.precision=bf16-mixed",
    "trainer.accelerator=cpu",
    "trainer.deterministic=true",
    "+trainer.accumulate_grad_batches=2",
    "+trainer.gradient_clip_val=1",
    "+trainer.limit_train_batches=3",
    "+trainer.sync_batchnorm=true",
    "lr_batch_size=64",
    "callbacks=ema",
    "seed=2",
    "label_smoothing=0.1",
    "teacher=runs/large",
    "gate_penalty.l1=0.01",
    "channels_last=false",
    "compile=true",
]
NOT_PART = [
    [
        "run_dir=/somewhere/else",
        "data.root=/scratch/job17",
        "logger=csv",
        "logger.csv.name=rows",
        "~callbacks.progress",
    ],
    [
        "logger=tensorboard",
        "~callbacks.data_wait",
        "callbacks.checkpoint.every_minutes=7",
        "stop_signals=[]",
        "dry=true",
        "+callbacks.pruning={_target_:callbacks.pruning.Pruning,search:here,trial:1,macs:5}",
        "trainer.log_every_n_steps=1",
    ],
    ["trainer.num_sanity_val_steps=2", "trainer.enable_model_summary=true", "+trainer.profiler=simple"],
    ["trainer=fsdp"],
    ["trainer=ddp", "trainer.devices=2", "+trainer.num_nodes=2"],
    ["distillation.temperature=2", "distillation.weight=0.5", "distillation.features=1"],
    ["+trainer.limit_test_batches=null", "label_smoothing=0.0", "model=resnet20_sic"],
]
IMAGES = ["data=image_folder", "data.num_classes=5"]


@cache
def usual() -> Run:
    return settled()


@pytest.mark.slow
@pytest.mark.parametrize("override", PART)
def test_what_decides_the_numbers_is_part(override: str) -> None:
    assert settled(override).directory != usual().directory


@pytest.mark.parametrize("overrides", NOT_PART, ids=" ".join)
def test_where_things_are_and_what_is_shown_is_not(overrides: list[str]) -> None:
    assert not differences(identifying(settled(*overrides).config), identifying(usual().config))


def test_what_milliseconds_came_to_in_macs_is_not() -> None:
    run = settled("model=resnet20_sic", "model.budget_ms=4")
    measured = run.with_model({"budget_macs": 5_000_000})
    assert measured.config["model"]["budget_macs"] == 5_000_000
    assert identifying(measured.config) == identifying(run.config)


def test_how_it_learns_from_a_teacher_is_part_where_there_is_one() -> None:
    usual = settled("teacher=runs/large")
    assert settled("teacher=runs/large/").directory == usual.directory
    for changed in ("distillation.temperature=2", "distillation.weight=0.5", "distillation.features=1"):
        assert settled("teacher=runs/large", changed).directory != usual.directory


def test_how_many_processes_read_images_is_not() -> None:
    one, other = settled(*IMAGES), settled(*IMAGES, "data.num_workers=7", "data.bad_share=0.5")
    assert one.directory == other.directory


def test_a_folder_on_each_node_is_the_same_data(monkeypatch) -> None:
    """The environment says where data lie; of images in folders the last folder's name says which they are."""
    before = [settled(*data).directory for data in ([], ["data=cifar10"], ["data=imagenet"])]
    monkeypatch.setenv("DATA_ROOT", "/local/job17")
    assert [settled(*data).directory for data in ([], ["data=cifar10"], ["data=imagenet"])] == before
    birds = settled(*IMAGES, "data.root=/local/job17/birds")
    assert settled(*IMAGES, "data.root=/shared/birds").directory == birds.directory
    assert settled(*IMAGES, "data.root=/shared/cats").directory != birds.directory
    assert birds.names["data"] == "image_folder-birds"

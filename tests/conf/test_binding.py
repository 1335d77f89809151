"""Every YAML composes and fits the signatures it names; what does not fit is explained."""

from inspect import Parameter, Signature
from itertools import cycle, islice

import pytest

from conf import binding
from tests.conftest import choices

# A choice of one group says nothing of the others': each composition takes the next one of each group.
GROUPS = ("model/backbone", "model/layer", "model/scope", "data", "optimizer", "scheduler", "callbacks", "logger")
NUMBER = max(len(choices(group)) for group in GROUPS)
TOGETHER = [
    [(group, choice) for group, choice in zip(GROUPS, row, strict=True)]
    for row in islice(zip(*(cycle(choices(group)) for group in GROUPS), strict=False), NUMBER)
]
ALONE = [[(group, choice)] for group in ("model", "trainer", "experiment") for choice in choices(group)]
NEEDS = {
    ("model/backbone", "timm"): ["model.backbone.name=resnet10t"],
    ("optimizer", "timm"): ["optimizer.name=lamb"],
    ("model/backbone", "torchvision"): ["model.backbone.name=alexnet"],
    ("model/scope", "stages"): ["model.scope.stages=[1]"],
    ("model/scope", "names"): ["model.scope.patterns=[a]"],
    ("data", "image_folder"): ["data.num_classes=6"],
}


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [*TOGETHER, *ALONE], ids=lambda chosen: chosen[0][1])
def test_every_choice_composes_and_binds(plain, chosen: list[tuple[str, str]]) -> None:
    needed = [override for group_and_choice in chosen for override in NEEDS.get(group_and_choice, [])]
    binding.check(plain(*(f"{group}={choice}" for group, choice in chosen), "run_dir=here", *needed))


WRONG = [
    ("optimizer.lerning_rate=1", "optimizer.lerning_rate: SGD takes no such argument; there are: dampening"),
    ("+optimizer.nestrov=true", "optimizer.nestrov: SGD takes no such argument; did you mean nesterov"),
    ("model.layer.dept=2", "model.layer.dept: SIC takes no such argument; did you mean depth"),
    ("trainer.max_epoch=2", "trainer.max_epoch: Trainer takes no such argument; did you mean max_epochs"),
    ("data.load.root=x", "data.load.root: digits takes no such argument$"),
    ("optimizer.params=[1]", "optimizer.params: SGD takes no such argument"),
    ("model.layer.depth=two", "model.layer.depth=two: must be a whole number$"),
    ("data.batch_size=big", "data.batch_size=big: must be a whole number$"),
    ("data.batch_size=", "data.batch_size='': must be a whole number$"),
    ("data.batch_size=true", "data.batch_size=true: must be a whole number$"),
    ("data.mean=[a]", r"data.mean=\[\"a\"\]: must be a list \(a number\)$"),
    ("data.mean=0.5", r"data.mean=0.5: must be a list \(a number\)$"),
    ("data.flip=rnadom", "data.flip=rnadom: no such choice; did you mean random"),
    ("optimizer.lr=fast", "optimizer.lr=fast: must be a number$"),
    ("optimizer.lr=null", "optimizer.lr=null: must be a number$"),
    ("optimizer.fused=1", "optimizer.fused=1: must be true or false or null$"),
    ("model.backbone.shortcut=C", "model.backbone.shortcut=C: no such choice; there are: A, B"),
    ("trainer.max_epochs=x", "trainer.max_epochs=x: must be a whole number or null$"),
    ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: must be a whole number or null$"),
    ("trainer.max_epochs=[1]", r"trainer.max_epochs=\[1\]: must be a whole number or null$"),
    ("trainer.gradient_clip_val=x", "trainer.gradient_clip_val=x: must be a whole number or a number or null$"),
    ("trainer.precision=bf16mixed", "trainer.precision=bf16mixed: no such choice; did you mean bf16-mixed"),
    ("trainer.plugins=abc", "trainer.plugins=abc: must be a list or null$"),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0: must be at least 1$"),
    ("trainer.gradient_clip_val=-0.5", "trainer.gradient_clip_val=-0.5: must be at least 0$"),
    ("model.layer.stride=2", "model.layer.stride: set model/backbone=... or model/scope=... instead"),
    ("data.crop_padding=-1", "data.crop_padding=-1: must be at least 0$"),
    ("trainer.limit_test_batches=0", "trainer.limit_test_batches=0: must be at least 0.001$"),
    ("seed=-1", "seed=-1: must be at least 0$"),
    ("data.batch_size=0", "data.batch_size=0: must be at least 1$"),
    ("trainer.enable_progress_bar=false", "trainer.enable_progress_bar: set ~callbacks.progress instead"),
    ("trainer.logger=false", "trainer.logger: set logger=... instead"),
    ("model.backbone.num_classes=7", "model.backbone.num_classes: set data.num_classes=... instead"),
    ("callbacks.checkpoint.every=1", "callbacks.checkpoint.every: LastCheckpoint takes no such argument"),
    ("callbacks.chekpoint.every_minutes=1", "callbacks.chekpoint: no such key; did you mean checkpoint"),
    ("callbacks.ema.decay=0.9", "callbacks.ema: no such key; there are: checkpoint, data_wait, progress"),
    ("logger.csv=1", "logger.csv: no such key; there are: tensorboard"),
    ("~optimizer", "optimizer: nothing is chosen; choose one with optimizer=..."),
    ("~model/layer", "model.layer: nothing is chosen; choose one with model/layer=..."),
    ("~scheduler.warmup_epochs", "scheduler.warmup_epochs needs a value: scheduler.warmup_epochs=..."),
    (
        "model.layer._target_=torch.nn.Conv",
        "model.layer._target_=torch.nn.Conv: module 'torch.nn' has no attribute 'Conv'$",
    ),
    ("model.layer._target_=nowhere.Conv", "model.layer._target_=nowhere.Conv: No module named 'nowhere'$"),
]


@pytest.mark.parametrize(("override", "message"), WRONG, ids=[override for override, _ in WRONG])
def test_what_does_not_fit_is_explained(plain, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        binding.check(plain(override, "run_dir=here"))


@pytest.mark.parametrize("hint", [int | float | None, None | float | int], ids=str)
def test_a_union_is_described_in_one_order(hint, monkeypatch: pytest.MonkeyPatch) -> None:
    gain = Signature([Parameter("gain", Parameter.KEYWORD_ONLY, annotation=hint)])
    monkeypatch.setattr(binding, "signature", lambda target: gain)
    with pytest.raises(ValueError, match="^own.gain=x: must be a whole number or a number or null$"):
        binding.check({"own": {"_target_": "own", "gain": "x"}})


def test_loggers_take_their_names_from_the_run_directory(plain) -> None:
    wandb = plain("logger=wandb", "run_dir=/scratch/my runs/a")["logger"]["wandb"]
    assert (wandb["name"], wandb["id"], wandb["mode"]) == ("a", "scratch-my-runs-a", "offline")
    mlflow = plain("logger=mlflow", "run_dir=runs/a")["logger"]["mlflow"]
    assert (mlflow["run_dir"], mlflow["tracking_uri"]) == ("runs/a", "sqlite:///runs/mlflow.db")
    assert list(plain("logger=csv", "run_dir=here")["logger"]) == ["csv"]


def test_loggers_follow_their_own_environment_variables(plain, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert plain("logger=wandb", "run_dir=here")["logger"]["wandb"]["mode"] == "online"
    assert plain("logger=mlflow", "run_dir=here")["logger"]["mlflow"]["tracking_uri"] == "http://server:5000"


RIGHT = [
    ["optimizer.lr=1", "scheduler.warmup_epochs=0", "optimizer.maximize=true", "trainer.gradient_clip_val=1"],
    ["trainer.limit_train_batches=0.5", "trainer.devices=[0,1]", "trainer.precision=16", "+trainer.profiler=simple"],
    ["trainer.devices=2", "trainer.deterministic=warn", "data.flip=null", "model.layer.depthwise_kernel_size=5"],
    ["~logger"],
]


def test_a_run_directory_without_a_name_is_none(plain) -> None:
    with pytest.raises(ValueError, match="^run_dir needs a value"):
        binding.check(plain("run_dir="))


@pytest.mark.parametrize("overrides", RIGHT, ids=" ".join)
def test_what_fits_needs_no_plus(plain, overrides: list[str]) -> None:
    binding.check(plain(*overrides, "run_dir=here"))

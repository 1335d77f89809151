"""Every YAML composes and fits the signatures it names; what does not fit is explained."""

from typing import Any

import pytest

from conf import binding
from tests.conftest import choices

GROUPS = ("model", "data", "optimizer", "scheduler", "trainer", "callbacks", "logger", "model/backbone", "model/layer")
EVERY = [(group, choice) for group in GROUPS for choice in choices(group)]
EVERY += [("experiment", choice) for choice in choices("experiment")]
NEEDS = {
    "timm": ["model.backbone.name=resnet10t"],
    "torchvision": ["model.backbone.name=alexnet"],
    "stages": ["model.scope.stages=[1]"],
    "names": ["model.scope.patterns=[a]"],
    "image_folder": ["data.num_classes=6"],
}


@pytest.mark.parametrize(("group", "choice"), [*EVERY, *(("model/scope", scope) for scope in choices("model/scope"))])
def test_every_choice_composes_and_binds(plain, group: str, choice: str) -> None:
    binding.check(plain(f"{group}={choice}", "run_dir=here", *NEEDS.get(choice, [])))


WRONG = [
    ("+optimizer.lerning_rate=1", "optimizer.lerning_rate: SGD takes no such argument; there are: dampening"),
    ("+optimizer.nestrov=true", "optimizer.nestrov: SGD takes no such argument; did you mean nesterov"),
    ("+model.layer.dept=2", "model.layer.dept: SIC takes no such argument; did you mean depth"),
    ("+trainer.max_epoch=2", "trainer.max_epoch: Trainer takes no such argument; did you mean max_epochs"),
    ("model.layer.depth=two", "model.layer.depth='two': str is not an instance of int"),
    ("data.batch_size=big", "data.batch_size='big': str is not"),
    ("data.mean=[a]", "data.mean="),
    ("optimizer.lr=fast", "optimizer.lr='fast'"),
    ("model.backbone.shortcut=C", "model.backbone.shortcut='C'"),
    ("trainer.max_epochs=[1]", r"trainer.max_epochs=\[1\]"),
    ("+callbacks.checkpoint.every=1", "callbacks.checkpoint.every: Last takes no such argument"),
]


@pytest.mark.parametrize(("override", "message"), WRONG, ids=[override for override, _ in WRONG])
def test_what_does_not_fit_is_explained(plain, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        binding.check(plain(override, "run_dir=here"))


def test_whole_numbers_are_numbers(plain) -> None:
    config: dict[str, Any] = plain("optimizer.lr=1", "scheduler.warmup_epochs=0", "run_dir=here")
    binding.check(config)

"""A student learns from the features of its teacher by the formula; what translates them belongs to neither."""

import copy
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.group_resnet import group_resnet
from models.backbones.preact_resnet import preact_resnet
from models.training.classifier import Classifier
from models.training.distillation import distillation
from models.training.features import FeatureMatching, Stage, stages
from models.training.schedules import multistep
from tests.models.training.test_classifier import fit
from tests.models.training.test_distillation import images_and_labels, network
from tests.resumption import equal

pytestmark = pytest.mark.filterwarnings("ignore")


def torchvision_network(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None)


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (partial(cifar_resnet, depth=8), 32, {32: "stage1 16", 16: "stage2 32", 8: "stage3 64"}),
        (
            partial(preact_resnet, depth=11, block="bottleneck", shortcut="B"),
            32,
            {32: "stage1 64", 16: "stage2 128", 8: "norm 256"},
        ),
        (
            partial(group_resnet, depth=8, group="p4", widths=[4, 5, 6]),
            32,
            {32: "stage1 16", 16: "stage2 20", 8: "norm 24"},
        ),
        (
            partial(torchvision_network, "resnet50"),
            64,
            {32: "relu 64", 16: "layer1 256", 8: "layer2 512", 4: "layer3 1024", 2: "layer4 2048"},
        ),
        (
            partial(torchvision_network, "mobilenet_v2"),
            64,
            {32: "features.1 16", 16: "features.3 24", 8: "features.6 32", 4: "features.13 96", 2: "features 1280"},
        ),
        (
            partial(timm.create_model, "resnet18"),
            64,
            {32: "act1 64", 16: "layer1 64", 8: "layer2 128", 4: "layer3 256", 2: "layer4 512"},
        ),
    ],
    ids=["cifar", "preact", "p4", "torchvision", "torchvision mobilenet", "timm"],
)
def test_a_stage_ends_where_the_network_calls_it_one(make, size: int, expected: dict[int, str]) -> None:
    """Not within the block that halves the maps, which is of the next stage."""
    assert {
        width: f"{name} {channels}" for width, (name, channels) in stages(make(), (3, size, size)).items()
    } == expected


class Shared(nn.Module):
    """One ReLU for two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 5, 3, 2), nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.relu(self.first(images)))).mean((2, 3))


def test_a_module_that_runs_twice_ends_no_stage() -> None:
    assert stages(Shared(), (3, 15, 15)) == {7: Stage("first", 4), 3: Stage("second", 5)}


class Everywhere(nn.Module):
    """Two maps of this width with this value, whatever the images."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.width, self.value = width, value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_full((len(images), 2, self.width, self.width), self.value)


def test_each_stage_counts_the_same_and_half_precision_is_widened() -> None:
    """2 ((300 - 0)^2 + (3 - 1)^2) / 2, of which half precision holds the differences alone."""
    student = nn.Sequential(Everywhere(4, 300.0), Everywhere(2, 3.0))
    teacher = nn.Sequential(Everywhere(4, 0.0), Everywhere(2, 1.0))
    features, images = FeatureMatching(student, teacher, (3, 4, 4), weight=2.0), torch.zeros(5, 3, 4, 4).half()
    student(images), teacher(images)
    assert features.take().item() == 90004


@pytest.mark.parametrize("width", [7, 2], ids=["other channels", "same channels"])
def test_a_step_follows_the_features_and_trains_the_regressors_beside_the_student(width: int) -> None:
    teacher, student, (images, labels) = network(width), network(2), images_and_labels(mixed=False)
    lessons = distillation(student, teacher, (3, 2, 2), temperature=1.0, weight=1.0, features=0.5)
    assert lessons.features is not None
    regressor = lessons.features.regressors["2"]
    ours, theirs, translation = copy.deepcopy(student), copy.deepcopy(teacher).eval(), copy.deepcopy(regressor)
    features, hint = ours[:2](images), theirs[:2](images).detach()
    distance = 0.5 * ((translation(features) - hint) ** 2).sum() / (8 * width * 2 * 2)
    answers = theirs[2:](hint).softmax(1).detach()
    soft = F.kl_div(ours[2:](features).log_softmax(1), answers, reduction="batchmean")
    (soft + distance).backward()
    before = copy.deepcopy(teacher.state_dict())
    scheduler = partial(multistep, milestones=[0.5], gamma=1.0, warmup_epochs=0)
    module = Classifier(student, partial(torch.optim.SGD, lr=0.1), scheduler, distillation=lessons)
    metrics = fit(module, DataLoader(TensorDataset(images, labels), batch_size=8), max_epochs=1).callback_metrics
    expected = [*ours.parameters(), *translation.parameters()]
    trained = [*student.parameters(), *regressor.parameters()]
    for stepped, start in zip(trained, expected, strict=True):
        assert start.grad is not None
        torch.testing.assert_close(stepped, start - 0.1 * start.grad)
    assert len(trained) == 6 + 2 * (width != 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert module.state_dict().keys() == {f"net.{name}" for name in ours.state_dict()}
    assert metrics["train/features"] == pytest.approx(distance.item(), rel=1e-5)
    assert metrics["train/distillation"] == pytest.approx(soft.item(), rel=1e-5)


def learner(width: int = 7) -> Classifier:
    """A student that is going to learn from the features of a teacher of this width."""
    student = network(2)
    lessons = distillation(student, network(width), (3, 2, 2), temperature=4.0, weight=0.9, features=0.5)
    scheduler = partial(multistep, milestones=[0.5], gamma=1.0, warmup_epochs=0)
    return Classifier(student, partial(torch.optim.SGD, lr=0.1, momentum=0.9), scheduler, distillation=lessons)


def regressors(module: Classifier) -> dict[str, torch.Tensor]:
    assert module.features is not None
    return module.features.regressors.state_dict()


@pytest.mark.parametrize("precision", ["16-true", "bf16-mixed", "64-true"])
def test_a_checkpoint_keeps_the_regressors_bit_by_bit(precision: str, tmp_path: Path) -> None:
    """In the precision of the training, with their momentum."""
    loader = DataLoader(TensorDataset(*images_and_labels(mixed=False)), batch_size=8)
    first, second = learner(), learner()
    saved = fit(first, loader, max_epochs=1, precision=precision)
    saved.save_checkpoint(tmp_path / "last.ckpt")
    loaded = fit(second, loader, ckpt_path=tmp_path / "last.ckpt", max_epochs=1, precision=precision)
    assert equal(regressors(second), regressors(first))
    assert equal(loaded.optimizers[0].state_dict(), saved.optimizers[0].state_dict())
    assert {tensor.dtype for tensor in regressors(second).values()} == {next(second.net.parameters()).dtype}


def test_what_cannot_be_matched_is_refused() -> None:
    match = partial(FeatureMatching, input_shape=(3, 32, 32))
    small, tokens = cifar_resnet(depth=8), nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(ValueError, match=r"features=-1: must be positive, or null"):
        match(small, small, weight=-1)
    with pytest.raises(
        ValueError, match=r"student's features are 32, 16, 8 pixels wide, the teacher's none, and none of"
    ):
        match(small, tokens, weight=1.0)


def test_features_need_whole_weights() -> None:
    module = learner()
    module._device_mesh = "a strategy's"
    with pytest.raises(ValueError, match=r"features: not with weights that are shared out; choose trainer=ddp"):
        module.configure_model()

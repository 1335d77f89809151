"""A student learns from soft answers by the formula of the paper; its teacher stays what it was."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from models.training.classifier import Classifier
from models.training.distillation import Distillation
from models.training.schedules import multistep
from tests.models.training.test_classifier import fit

pytestmark = pytest.mark.filterwarnings("ignore")


class Answers(nn.Module):
    """A network that gives these logits, whatever it is asked."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_the_loss_and_its_gradient_are_those_of_the_formula(temperature: float) -> None:
    """d loss / d s = T (softmax(s / T) - softmax(t / T)) / N: Hinton et al., equation 2, times T^2."""
    student, teacher = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], [[2.0, 0.0, -1.0], [-1.0, 0.5, 4.0]]
    logits, net = torch.tensor(student, dtype=torch.float64, requires_grad=True), Answers(teacher)
    loss = Distillation(net, temperature=temperature, weight=1.0).loss(torch.empty(2, 1), logits)
    loss.backward()
    shares = [[softened(row, temperature) for row in rows] for rows in (student, teacher)]
    pairs = list(zip(*shares, strict=True))
    divergence = sum(t * math.log(t / s) for image in pairs for s, t in zip(*image, strict=True)) / 2
    gradient = [[temperature * (s - t) / 2 for s, t in zip(*image, strict=True)] for image in pairs]
    assert loss.item() == pytest.approx(temperature**2 * divergence, rel=1e-12)
    torch.testing.assert_close(logits.grad, torch.tensor(gradient, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    assert net.logits.grad is None


def softened(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_half_precision_is_widened() -> None:
    """T^2 x KL of logits that half precision holds, but whose loss it does not."""
    logits, net = torch.tensor([[0.0, 6e4]], dtype=torch.float16), Answers([[6e4, 0.0]])
    loss = Distillation(net, temperature=10.0, weight=1.0).loss(torch.empty(1, 1), logits)
    assert loss.item() == pytest.approx(100 * 6e3)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"temperature": 0.0}, "distillation.temperature=0.0: must be positive; 4 is usual"),
        ({"temperature": float("nan")}, "distillation.temperature=nan: must be positive"),
        ({"weight": 0.0}, r"distillation.weight=0.0: must lie in \(0, 1\]; 0.9 is usual, and teacher=null trains"),
        ({"weight": 1.5}, "distillation.weight=1.5: must lie in"),
    ],
)
def test_what_is_no_temperature_or_weight_is_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(Answers([[0.0]]), **{"temperature": 4.0, "weight": 0.9} | knobs)


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 5))


def images_and_labels(mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(8) % 5
    if mixed:
        labels = 0.7 * F.one_hot(labels, 5) + 0.3 * F.one_hot(labels.roll(1), 5)
    return torch.randn(8, 3, 2, 2), labels


@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "mixed labels"])
def test_a_step_follows_labels_and_teacher_and_changes_only_the_student(mixed: bool) -> None:
    teacher, student, (images, labels) = network(7), network(2), images_and_labels(mixed)
    teacher(images)  # statistics that evaluation mode uses
    expected, before = copy.deepcopy(student), copy.deepcopy(teacher.state_dict())
    answers, logits = (teacher.eval()(images) / 2).softmax(1).detach(), expected(images)
    soft = 4 * (answers * (answers.log() - (logits / 2).log_softmax(1))).sum(1).mean()
    (0.25 * F.cross_entropy(logits, labels) + 0.75 * soft).backward()
    scheduler = partial(multistep, milestones=[0.5], gamma=1.0, warmup_epochs=0)
    distillation = Distillation(teacher.train(), temperature=2.0, weight=0.75)
    module = Classifier(student, partial(torch.optim.SGD, lr=0.1), scheduler, distillation=distillation)
    trainer = fit(module, DataLoader(TensorDataset(images, labels), batch_size=8), max_epochs=1)
    for ours, theirs in zip(student.parameters(), expected.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)
    assert not teacher.training
    assert all(weights.grad is None for weights in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert trainer.callback_metrics["train/distillation"] == pytest.approx(soft.item(), rel=1e-5)
    assert trainer.callback_metrics["train/loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert module.state_dict().keys() == {f"net.{name}" for name in student.state_dict()}
    [optimizer] = trainer.optimizers
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(student.parameters()))


@pytest.mark.parametrize("precision", ["16-true", "bf16-mixed", "64-true"])
def test_the_teacher_answers_in_the_precision_of_the_training(precision: str) -> None:
    teacher, student, batch = network(7), network(2), images_and_labels(mixed=False)
    scheduler = partial(multistep, milestones=[0.5], gamma=1.0, warmup_epochs=0)
    distillation = Distillation(teacher, temperature=4.0, weight=0.9)
    module = Classifier(student, partial(torch.optim.SGD, lr=0.1), scheduler, distillation=distillation)
    trainer = fit(module, DataLoader(TensorDataset(*batch), batch_size=8), max_epochs=1, precision=precision)
    assert math.isfinite(trainer.callback_metrics["train/distillation"])
    assert next(teacher.parameters()).dtype == next(student.parameters()).dtype

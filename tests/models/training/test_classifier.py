"""Steps, schedules, sums and refusals of training, on a small network and Lightning's own loop."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.throughput import Throughput
from models.training.classifier import Classifier
from models.training.schedules import multistep
from models.training.tally import Tally

pytestmark = pytest.mark.filterwarnings("ignore")


class Rates(pl.Callback):
    """The rate of each optimizer step."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.seen[trainer.global_step] = optimizer.param_groups[0]["lr"]


class Batches(DataLoader):
    """10 batches of 4, or as many as are asked for."""

    def __init__(self, number: int = 10) -> None:
        torch.manual_seed(0)
        super().__init__(TensorDataset(torch.randn(4 * number, 3, 2, 2), torch.arange(4 * number) % 5), batch_size=4)


def classifier(milestone: float = 1.0, warmup: float = 0.0, lr: float = 1e-3) -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    schedule = partial(multistep, milestones=[milestone], gamma=0.1, warmup_epochs=warmup)
    return Classifier(net, partial(torch.optim.SGD, lr=lr), schedule)


def fit(
    module: Classifier, loader: DataLoader, *callbacks: pl.Callback, ckpt_path: Path | None = None, **options
) -> pl.Trainer:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[*callbacks], **{"logger": False, **quiet, **options})
    trainer.fit(module, loader, ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.parametrize(("accumulated", "steps_per_epoch"), [(1, 10), (3, 4), (4, 3)])
def test_milestones_come_where_an_epoch_ends(accumulated: int, steps_per_epoch: int) -> None:
    """The last step of an epoch takes the batches that remain: ceil(10 / accumulated) steps."""
    rates, speed = Rates(), Throughput()
    trainer = fit(classifier(2.0), Batches(), rates, speed, max_epochs=3, accumulate_grad_batches=accumulated)
    assert trainer.global_step == 3 * steps_per_epoch
    assert [step for step, rate in rates.seen.items() if rate < 5e-4] == list(
        range(2 * steps_per_epoch, 3 * steps_per_epoch)
    )
    assert speed.images == 2 * 10 * 4  # all but the first epoch's


def test_steps_may_end_a_run_within_an_epoch() -> None:
    rates = Rates()
    trainer = fit(classifier(1.5), Batches(), rates, max_epochs=-1, max_steps=17, accumulate_grad_batches=1)
    assert trainer.global_step == 17
    assert [step for step, rate in rates.seen.items() if rate < 5e-4] == [15, 16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, "trainer.max_epochs=0: there would be nothing to train; it must be at least 1"),
        ({"max_steps": 0, "max_epochs": 3}, "trainer.max_steps=0: there would be nothing to train"),
        ({"limit_train_batches": 0, "max_epochs": 3}, "trainer.limit_train_batches=0: there would be nothing"),
        ({"max_epochs": -1}, "trainer.max_epochs=-1: without an end there is no learning-rate schedule; set"),
        ({"max_epochs": -1, "max_steps": 9}, "milestones=.1.0.: the last must come before the end, epoch 0.9"),
    ],
)
def test_a_run_without_steps_or_end_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(classifier(), Batches(), **options)


class Rows(pl.loggers.CSVLogger):
    """Keeps what it is told."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self.told: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.told.append((step or 0, metrics))


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4])])
def test_a_step_is_logged_once_whatever_it_accumulates(tmp_path, every: int, steps: list[int]) -> None:
    logger = Rows(str(tmp_path))
    options = {"max_epochs": 1, "accumulate_grad_batches": 3, "log_every_n_steps": every, "logger": logger}
    fit(classifier(0.5), Batches(), **options)
    assert [step for step, metrics in logger.told if "train/loss_step" in metrics] == steps
    assert [step for step, metrics in logger.told if "train/loss" in metrics] == [3]


def test_weights_that_are_no_numbers_are_not_kept(tmp_path) -> None:
    """Also where the loss, taken before the step, still was one."""
    trainer = fit(classifier(0.5), Batches(), max_epochs=1)
    module = trainer.lightning_module
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    next(module.parameters()).data[0] = torch.nan
    with pytest.raises(ValueError, match="the weights are no numbers in epoch 2, .*epochs are kept in run_dir/last.ck"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()


def test_a_checkpoint_within_an_epoch_holds_the_sums_so_far() -> None:
    first, rest, whole = Tally(1), Tally(1), Tally(1)
    for number in range(5):
        logits, labels = torch.randn(4, 3), torch.randint(3, (4,))
        loss = nn.functional.cross_entropy(logits, labels)
        if number == 2:
            rest.load(first.sums())
        for tally in (first if number < 2 else rest, whole):
            tally.add(loss, logits, labels)
    assert Tally(1).sums() == [0, 0, 0]  # where there was no batch yet
    assert rest.close() == pytest.approx(whole.close())
    assert rest.sums() == [0, 0, 0]


def test_a_checkpoint_within_an_epoch_brings_back_the_sums_of_loss_and_penalty() -> None:
    saved, resumed, checkpoint = classifier(), classifier(), {}
    logits, labels = torch.eye(4)[:, :3], torch.tensor([0, 1, 2, 0])
    saved.train_tally.add(torch.tensor(0.5), logits, labels)
    saved.penalty_tally.add(torch.tensor(0.25), logits, labels)
    saved.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    resumed.penalty_tally.add(torch.tensor(0.75), logits, labels)
    assert resumed.train_tally.close() == {"loss": 0.5, "top1": 100}
    assert resumed.penalty_tally.close() == {"loss": 0.5}


def test_an_empty_batch_counts_nothing() -> None:
    """Where another process has images left."""
    module = classifier().eval()
    images, labels = next(iter(Batches()))
    module.validation_step((images, labels), 0)
    module.validation_step((torch.empty(0), torch.empty(0, dtype=torch.int64)), 1)
    expected = nn.functional.cross_entropy(module.net(images), labels).item()
    assert module.eval_tally.sums()[0] == 4
    assert module.eval_tally.close()["loss"] == pytest.approx(expected)

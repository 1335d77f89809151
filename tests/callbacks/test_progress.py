"""What a person sees of training, on a clock that only the steps move."""

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from callbacks.progress import Progress, progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr("callbacks.progress.perf_counter", ticking)
    return ticking


class Net(pl.LightningModule):
    """A training step takes 10 seconds, a batch of an evaluation 5."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.clock.now += 10
        return 0 * self.layer(batch[0]).mean() + 0.5

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += 5

    test_step = validation_step

    def on_train_epoch_end(self) -> None:
        self.log_dict({"train/loss": 0.5, "train/top1": 80.0})

    def on_validation_epoch_end(self) -> None:
        self.log("val/top1", 75.0 + self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def images(batches: int) -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(60 * batches, 1)), batch_size=60)


def trainer_with(shown: pl.Callback, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet = {"enable_checkpointing": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return pl.Trainer(accelerator="cpu", callbacks=[shown, *callbacks], **quiet | {"logger": False} | options)


def fit(clock: Clock, shown: pl.Callback, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Three epochs of 10 batches, each followed by a validation of 2."""
    trainer = trainer_with(shown, *callbacks, **{"max_epochs": 3} | options)
    trainer.fit(Net(clock), images(10), images(2))
    return trainer


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "callbacks.progress")
    return lambda: [record.message for record in caplog.records if record.name == "callbacks.progress"]


def test_a_log_file_gets_a_line_a_minute_and_one_an_epoch(clock: Clock, said) -> None:
    fit(clock, Progress(on_terminal=False))
    assert said() == [
        "epoch 1/3  step 7/30  6 images/s  03:50 left  loss 0.5  lr 0.1",
        "epoch 1/3  loss 0.5  top-1 80.00 %  val top-1 75.00 %  6 images/s  110.0 s  03:42 left",
        "epoch 2/3  step 16/30  6 images/s  02:29 left  loss 0.5  lr 0.1",
        "epoch 2/3  loss 0.5  top-1 80.00 %  val top-1 76.00 %  6 images/s  110.0 s  01:50 left",
        "epoch 3/3  step 26/30  6 images/s  00:43 left  loss 0.5  lr 0.1",
        "epoch 3/3  loss 0.5  top-1 80.00 %  val top-1 77.00 %  6 images/s  110.0 s",
    ]


def test_a_long_evaluation_says_where_it_is(clock: Clock, said) -> None:
    shown = Progress(on_terminal=False)
    trainer_with(shown, max_epochs=1).fit(Net(clock), images(1), images(15))
    trainer_with(shown).test(Net(clock), images(14), verbose=False)
    assert said() == [
        "epoch 1/1 validation  batch 12/15",  # a minute after the only step
        "epoch 1/1  loss 0.5  top-1 80.00 %  val top-1 75.00 %  6 images/s  85.0 s",
        "test  batch 12/14",
    ]


def test_steps_may_set_the_end(clock: Clock, said) -> None:
    limits = {"max_epochs": -1, "max_steps": 12, "accumulate_grad_batches": 2}
    fit(clock, Progress(on_terminal=False), **limits)
    assert said()[0] == "epoch 1/3  step 3/12  6 images/s  03:00 left  loss 0.5  lr 0.1"
    assert said()[-1].startswith("epoch 3/3  loss 0.5")


def test_an_epoch_without_validation_shows_no_earlier_one(clock: Clock, said) -> None:
    fit(clock, Progress(on_terminal=False), check_val_every_n_epoch=2)
    epochs = [line for line in said() if "top-1" in line]
    assert ["val top-1" in line for line in epochs] == [False, True, False]


class Save(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 14:
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")
def test_a_run_that_goes_on_says_where(clock: Clock, said, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    fit(clock, Progress(on_terminal=False), Save(tmp_path / "at_step_14"))
    caplog.clear()
    trainer = trainer_with(Progress(on_terminal=False), max_epochs=3)
    trainer.fit(Net(clock), images(10), images(2), ckpt_path=str(tmp_path / "at_step_14"), weights_only=True)
    assert said()[0] == "resuming at epoch 2/3, step 14"
    assert said()[1:3] == [
        "epoch 2/3 validation  batch 2/2",
        "epoch 2/3  loss 0.5  top-1 80.00 %  val top-1 76.00 %  6 images/s  70.0 s  02:00 left",
    ]


def test_it_says_how_to_watch_the_curves(clock: Clock, said, tmp_path: Path) -> None:
    fit(clock, Progress(on_terminal=False), logger=TensorBoardLogger(tmp_path, version=""))
    assert said()[0] == f"to watch the curves: tensorboard --logdir {tmp_path}"


@pytest.mark.parametrize("on_terminal", [True, False])
def test_only_the_first_process_speaks(clock: Clock, said, capfd, monkeypatch, on_terminal: bool) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    fit(clock, Progress(on_terminal))
    assert not said()
    assert "epoch" not in capfd.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on standard error is a terminal, and the log is written there as conf/logs.py has it written."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(screen)])
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "level", logging.WARNING)
    return screen


def pieces(screen: Terminal) -> list[str]:
    """All that was ever written from the beginning of a line."""
    return [piece.rstrip() for piece in re.split(r"[\r\n]", screen.getvalue()) if piece.strip()]


def test_a_terminal_shows_a_bar_with_whole_lines_above_it(clock: Clock, monkeypatch) -> None:
    screen = terminal(monkeypatch)
    fit(clock, progress())
    drawn = [piece for piece in pieces(screen) if "|" in piece]
    lines = [piece for piece in pieces(screen) if "|" not in piece]
    epoch = "epoch {}/3  loss 0.5  top-1 80.00 %  val top-1 {}.00 %  110.0 s"
    assert lines == [epoch.format(1, 75) + "  03:42 left", epoch.format(2, 76) + "  01:50 left", epoch.format(3, 77)]
    assert "epoch 1/3 |##        | 2/10, 6 images/s, 04:40 left, loss 0.5, lr 0.1" in drawn
    assert any(piece.startswith("epoch 3/3 validation |") and piece.endswith("| 2/2") for piece in drawn)
    assert screen.getvalue().rstrip(" ").endswith("\r")  # nothing of the bar stays


def test_after_an_error_the_terminal_is_as_before(clock: Clock, monkeypatch) -> None:
    screen = terminal(monkeypatch)

    def fail(*_: Any) -> None:
        raise ValueError("no")

    before = [*logging.root.handlers]
    monkeypatch.setattr(Net, "validation_step", fail)
    with pytest.raises(ValueError, match="no"):
        fit(clock, progress())
    assert logging.root.handlers == before
    assert screen.getvalue().endswith("\r")

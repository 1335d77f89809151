"""What is said of waiting for data, on a clock that only the loader and the step move."""

import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from callbacks.data_wait import DataWait
from data.loader import Loader, Process


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _login_node(monkeypatch, tmp_path: Path) -> None:
    """Where there is srun, Lightning recommends it; these tests must pass there too."""
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.fixture(autouse=True)
def _clock(monkeypatch) -> None:
    monkeypatch.setattr("callbacks.data_wait.perf_counter", CLOCK)
    monkeypatch.setattr("data.loader.perf_counter", CLOCK)


class Net(pl.LightningModule):
    def __init__(self, seconds_a_step: float) -> None:
        super().__init__()
        self.seconds_a_step = seconds_a_step
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        CLOCK.now += self.seconds_a_step
        return self.layer(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(seconds_a_batch: float, seconds_a_step: float, num_images: int, epochs: int) -> None:
    def fetch(batches, epoch: int):
        for index in batches:
            CLOCK.now += seconds_a_batch
            yield index[:, None].float(), index

    place = {"epoch": lambda: trainer.current_epoch, "done": lambda: 0}
    loader = Loader(num_images, 2, fetch, process=Process(0, 1), seed=1, advice="buy a disk", **place)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[DataWait()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(seconds_a_step), loader)


@pytest.mark.parametrize(("batch", "step", "percent"), [(0.02, 0.005, 80), (0.001, 0.019, 5), (0.0, 0.03, 0)])
def test_waiting_is_measured_once_and_above_a_tenth_comes_with_advice(
    caplog, batch: float, step: float, percent: int
) -> None:
    with caplog.at_level("INFO", "callbacks.data_wait"):
        fit(batch, step, 60, 2)
    lines = [record.message for record in caplog.records if record.name == "callbacks.data_wait"]
    advice = ["to wait less: buy a disk"] if percent > 10 else []
    assert lines == [f"waiting for data: {percent}% of the time of 29 batches", *advice]


def test_it_stops_after_a_hundred_batches(caplog) -> None:
    with caplog.at_level("INFO", "callbacks.data_wait"):
        fit(0.0, 0.01, 300, 1)
    assert "of the time of 100 batches" in caplog.text
